"""Meta's `sam3` package on a CPU, with small encoders, and the same weights as a transformers model.

The package asks for CUDA where it is built; `cpu_shim` answers for the places that do. Everything after the encoders
has its real size: the package's builders know no other.
"""

from __future__ import annotations

import gzip
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import Sam3VideoConfig, Sam3VideoModel

SIZE, PATCH, GRID = 112, 14, 8
WIDTH, DEPTH, HEADS = 32, 2, 2
TEXT_WIDTH, TEXT_HEADS, TEXT_LAYERS = 32, 2, 2


@contextmanager
def cpu_shim() -> Iterator[None]:
    """While the package is used: tensors stay where they are when told `.cuda()`, tables are made on the CPU."""
    import sam3.model.decoder as decoder
    import sam3.model.position_encoding as encoding

    real_zeros, real_coordinates = torch.zeros, decoder.TransformerDecoder._get_coords

    class OnCpu:
        def __getattr__(self, name: str) -> Any:
            return zeros if name == "zeros" else getattr(torch, name)

    def zeros(*shape: Any, **options: Any) -> torch.Tensor:
        return real_zeros(*shape, **{**options, **({"device": "cpu"} if options.get("device") == "cuda" else {})})

    def coordinates(height: int, width: int, device: Any) -> Any:
        return real_coordinates(height, width, device="cpu" if device == "cuda" else device)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(torch.Tensor, "cuda", lambda self, *args, **options: self)
        patch.setattr(torch.Tensor, "pin_memory", lambda self, *args, **options: self)
        patch.setattr(encoding, "torch", OnCpu())
        patch.setattr(decoder.TransformerDecoder, "_get_coords", staticmethod(coordinates))
        yield


def vocabulary(folder: Path) -> Path:
    """A byte-pair vocabulary without merges, in the package's format: every letter is a token."""
    path = folder / "bpe.txt.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"#version: 0.2\n")
    return path


def small_neck() -> torch.nn.Module:
    """The image encoder, as the package's `_create_vision_backbone` makes it."""
    import sam3.model_builder as builder
    from sam3.model.necks import Sam3DualViTDetNeck
    from sam3.model.vitdet import ViT

    trunk = ViT(
        img_size=SIZE,
        pretrain_img_size=SIZE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=2.0,
        norm_layer="LayerNorm",
        qkv_bias=True,
        use_abs_pos=True,
        tile_abs_pos=True,
        global_att_blocks=(1,),
        rel_pos_blocks=(),
        use_rope=True,
        use_interp_rope=True,
        window_size=GRID,
        pretrain_use_cls_token=True,
        retain_cls_token=False,
        ln_pre=True,
        ln_post=False,
        return_interm_layers=False,
        bias_patch_embed=False,
    )
    return Sam3DualViTDetNeck(
        position_encoding=builder._create_position_encoding(),
        d_model=256,
        scale_factors=[4.0, 2.0, 1.0, 0.5],
        trunk=trunk,
        add_sam2_neck=True,
    )


def small_text(bpe_path: str | Path) -> torch.nn.Module:
    """The text encoder, as the package's `_create_text_encoder` makes it."""
    from sam3.model.text_encoder_ve import VETextEncoder
    from sam3.model.tokenizer_ve import SimpleTokenizer

    return VETextEncoder(
        tokenizer=SimpleTokenizer(bpe_path=bpe_path),
        d_model=256,
        width=TEXT_WIDTH,
        heads=TEXT_HEADS,
        layers=TEXT_LAYERS,
        vocab_size=1000,
    )


def meta_models(folder: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Detector and tracker as the package's own builder puts them together, under `cpu_shim`."""
    import sam3.model_builder as builder
    from sam3.model.decoder import TransformerDecoder, TransformerDecoderLayer
    from sam3.model.model_misc import MLP, DotProductScoring, MultiheadAttentionWrapper, TransformerWrapper
    from sam3.model.sam3_image import Sam3ImageOnVideoMultiGPU
    from sam3.model.vl_combiner import SAM3VLBackbone

    torch.manual_seed(0)
    neck, text = small_neck(), small_text(vocabulary(folder))
    decoder = TransformerDecoder(
        layer=TransformerDecoderLayer(
            activation="relu",
            d_model=256,
            dim_feedforward=2048,
            dropout=0.1,
            cross_attention=MultiheadAttentionWrapper(num_heads=8, dropout=0.1, embed_dim=256),
            n_heads=8,
            use_text_cross_attention=True,
        ),
        num_layers=6,
        num_queries=200,
        return_intermediate=True,
        box_refine=True,
        num_o2m_queries=0,
        dac=True,
        boxRPB="log",
        d_model=256,
        frozen=False,
        interaction_layer=None,
        dac_use_selfatt_ln=True,
        resolution=SIZE,
        stride=PATCH,
        use_act_checkpoint=True,
        presence_token=True,
    )
    scoring = MLP(256, 2048, 256, 2, dropout=0.1, residual=True, out_norm=torch.nn.LayerNorm(256))
    detector = Sam3ImageOnVideoMultiGPU(
        num_feature_levels=1,
        backbone=SAM3VLBackbone(scalp=1, visual=neck, text=text),
        transformer=TransformerWrapper(encoder=builder._create_transformer_encoder(), decoder=decoder, d_model=256),
        segmentation_head=builder._create_segmentation_head(),
        semantic_segmentation_head=None,
        input_geometry_encoder=builder._create_geometry_encoder(),
        use_early_fusion=True,
        use_dot_prod_scoring=True,
        dot_prod_scoring=DotProductScoring(d_model=256, d_proj=256, prompt_mlp=scoring),
        supervise_joint_box_scores=True,
    )
    return detector.eval(), meta_tracker().eval()


def meta_tracker() -> torch.nn.Module:
    """`build_tracker` at the small size. Memory selection, which transformers does not have, is off."""
    import sam3.model_builder as builder
    from sam3.model.sam3_tracking_predictor import Sam3TrackerPredictor

    memory = builder._create_tracker_maskmem_backbone()
    memory.mask_downsampler.interpol_size = [16 * GRID, 16 * GRID]
    return Sam3TrackerPredictor(
        image_size=SIZE,
        num_maskmem=7,
        backbone=None,
        backbone_stride=PATCH,
        transformer=builder._create_tracker_transformer(),
        maskmem_backbone=memory,
        multimask_output_in_sam=True,
        forward_backbone_per_frame_for_eval=True,
        trim_past_non_cond_mem_for_eval=False,
        multimask_output_for_tracking=True,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        always_start_from_first_ann_frame=False,
        non_overlap_masks_for_mem_enc=False,
        non_overlap_masks_for_output=False,
        max_cond_frames_in_attn=4,
        offload_output_to_cpu_for_eval=False,
        sam_mask_decoder_extra_args={
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
        clear_non_cond_mem_around_input=True,
        fill_hole_area=0,
        use_memory_selection=False,
    )


@contextmanager
def logits_resized_first(tracker: torch.nn.Module) -> Iterator[None]:
    """Let the package's memory encoder resize a mask as transformers' does: its logits, and then sigmoid or threshold.

    The package thresholds first and resizes the result, which is softer at the edges.
    """
    original = tracker._encode_new_memory

    def encode(*, pred_masks_high_res: torch.Tensor, **rest: Any) -> Any:
        size = tracker.maskmem_backbone.mask_downsampler.interpol_size
        resized = F.interpolate(pred_masks_high_res, size=size, mode="bilinear", align_corners=False, antialias=True)
        return original(pred_masks_high_res=resized, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker, "_encode_new_memory", encode)
        yield


def transformers_model() -> Sam3VideoModel:
    """The same architecture in transformers, random weights."""
    config = Sam3VideoConfig()
    for vision in (config.detector_config.vision_config, config.tracker_config.vision_config):
        backbone = vision.backbone_config
        backbone.hidden_size, backbone.intermediate_size = WIDTH, 2 * WIDTH
        backbone.num_hidden_layers, backbone.num_attention_heads = DEPTH, HEADS
        backbone.global_attn_indexes, backbone.window_size = [1], GRID
        backbone.pretrain_image_size = SIZE
        backbone.layer_norm_eps = 1e-5  # the package's; transformers' default is 1e-6
    text = config.detector_config.text_config
    text.hidden_size, text.intermediate_size, text.projection_dim = TEXT_WIDTH, 4 * TEXT_WIDTH, TEXT_WIDTH
    text.num_hidden_layers, text.num_attention_heads, text.vocab_size = TEXT_LAYERS, TEXT_HEADS, 1000
    config.image_size = SIZE
    config.low_res_mask_size = 4 * GRID
    torch.manual_seed(0)
    return Sam3VideoModel(config).eval()


# Key map --------------------------------------------------------------------------------------------------------------
# From the package's names to transformers' (pattern, replacement), applied in order; one fused q, k, v tensor becomes
# three afterwards. The checkpoint `sam3.pt` has the same names with `detector.` and `tracker.` in front.

DETECTOR_KEYS = [
    (r"^backbone\.vision_backbone\.trunk\.", "vision_encoder.backbone."),
    (r"backbone\.pos_embed$", "backbone.embeddings.position_embeddings"),
    (r"backbone\.patch_embed\.proj\.", "backbone.embeddings.patch_embeddings.projection."),
    (r"backbone\.ln_pre\.", "backbone.layer_norm."),
    (r"backbone\.blocks\.(\d+)\.norm([12])\.", r"backbone.layers.\1.layer_norm\2."),
    (r"backbone\.blocks\.(\d+)\.attn\.qkv\.", r"backbone.layers.\1.attention.qkv."),
    (r"backbone\.blocks\.(\d+)\.attn\.proj\.", r"backbone.layers.\1.attention.o_proj."),
    (r"backbone\.blocks\.(\d+)\.mlp\.", r"backbone.layers.\1.mlp."),
    (r"^backbone\.vision_backbone\.convs\.", "vision_encoder.neck.fpn_layers."),
    (r"^backbone\.vision_backbone\.sam2_convs\.", "tracker_neck.fpn_layers."),
    (r"(fpn_layers\.\d+)\.dconv_2x2(?:_0)?\.", r"\1.scale_layers.0."),
    (r"(fpn_layers\.\d+)\.dconv_2x2_1\.", r"\1.scale_layers.2."),
    (r"(fpn_layers\.\d+)\.conv_1x1\.", r"\1.proj1."),
    (r"(fpn_layers\.\d+)\.conv_3x3\.", r"\1.proj2."),
    (r"^backbone\.language_backbone\.resizer\.", "text_projection."),
    (r"^backbone\.language_backbone\.encoder\.", "text_encoder."),
    (r"text_encoder\.token_embedding\.", "text_encoder.text_model.embeddings.token_embedding."),
    (r"text_encoder\.positional_embedding$", "text_encoder.text_model.embeddings.position_embedding.weight"),
    (r"text_encoder\.ln_final\.", "text_encoder.text_model.final_layer_norm."),
    (r"text_encoder\.text_projection$", "text_encoder.text_projection.weight"),
    (r"text_encoder\.transformer\.resblocks\.(\d+)\.attn\.", r"text_encoder.text_model.encoder.layers.\1.self_attn."),
    (r"text_encoder\.transformer\.resblocks\.(\d+)\.ln_", r"text_encoder.text_model.encoder.layers.\1.layer_norm"),
    (r"resblocks\.(\d+)\.mlp\.c_fc\.", r"resblocks.\1.mlp.fc1."),
    (r"resblocks\.(\d+)\.mlp\.c_proj\.", r"resblocks.\1.mlp.fc2."),
    (r"text_encoder\.transformer\.resblocks\.(\d+)\.", r"text_encoder.text_model.encoder.layers.\1."),
    (r"^geometry_encoder\.encode\.(\d+)\.", r"geometry_encoder.layers.\1."),
    (r"^geometry_encoder\.img_pre_norm\.", "geometry_encoder.vision_layer_norm."),
    (r"^geometry_encoder\.norm\.", "geometry_encoder.prompt_layer_norm."),
    (r"^geometry_encoder\.encode_norm\.", "geometry_encoder.output_layer_norm."),
    (r"^transformer\.encoder\.", "detr_encoder."),
    (r"^(geometry_encoder|detr_encoder)\.layers\.(\d+)\.cross_attn_image\.", r"\1.layers.\2.cross_attn."),
    (r"^(geometry_encoder|detr_encoder)\.layers\.(\d+)\.norm(\d)\.", r"\1.layers.\2.layer_norm\3."),
    (r"^transformer\.decoder\.", "detr_decoder."),
    (r"^detr_decoder\.layers\.(\d+)\.ca_text\.", r"detr_decoder.layers.\1.text_cross_attn."),
    (r"^detr_decoder\.layers\.(\d+)\.cross_attn\.", r"detr_decoder.layers.\1.vision_cross_attn."),
    (r"^detr_decoder\.layers\.(\d+)\.norm1\.", r"detr_decoder.layers.\1.vision_cross_attn_layer_norm."),
    (r"^detr_decoder\.layers\.(\d+)\.catext_norm\.", r"detr_decoder.layers.\1.text_cross_attn_layer_norm."),
    (r"^detr_decoder\.layers\.(\d+)\.norm2\.", r"detr_decoder.layers.\1.self_attn_layer_norm."),
    (r"^detr_decoder\.layers\.(\d+)\.norm3\.", r"detr_decoder.layers.\1.mlp_layer_norm."),
    (r"^detr_decoder\.presence_token_head\.", "detr_decoder.presence_head."),
    (r"^detr_decoder\.presence_token_out_norm\.", "detr_decoder.presence_layer_norm."),
    (r"^detr_decoder\.norm\.", "detr_decoder.output_layer_norm."),
    (r"^detr_decoder\.bbox_embed\.", "detr_decoder.box_head."),
    (r"^detr_decoder\.boxRPB_embed_", "detr_decoder.box_rpb_embed_"),
    (r"(head|box_rpb_embed_[xy])\.layers\.0\.", r"\1.layer1."),
    (r"(head|box_rpb_embed_[xy])\.layers\.1\.", r"\1.layer2."),
    (r"(head)\.layers\.2\.", r"\1.layer3."),
    (r"\.linear1\.", ".mlp.fc1."),
    (r"\.linear2\.", ".mlp.fc2."),
    (r"^dot_prod_scoring\.prompt_mlp\.layers\.0\.", "dot_product_scoring.text_mlp.layer1."),
    (r"^dot_prod_scoring\.prompt_mlp\.layers\.1\.", "dot_product_scoring.text_mlp.layer2."),
    (r"^dot_prod_scoring\.prompt_mlp\.out_norm\.", "dot_product_scoring.text_mlp_out_norm."),
    (r"^dot_prod_scoring\.prompt_proj\.", "dot_product_scoring.text_proj."),
    (r"^dot_prod_scoring\.hs_proj\.", "dot_product_scoring.query_proj."),
    (r"^segmentation_head\.", "mask_decoder."),
    (r"^mask_decoder\.mask_predictor\.mask_embed\.", "mask_decoder.mask_embedder."),
    (r"^mask_decoder\.instance_seg_head\.", "mask_decoder.instance_projection."),
    (r"^mask_decoder\.semantic_seg_head\.", "mask_decoder.semantic_projection."),
    (r"^mask_decoder\.cross_attend_prompt\.", "mask_decoder.prompt_cross_attn."),
    (r"^mask_decoder\.cross_attn_norm\.", "mask_decoder.prompt_cross_attn_norm."),
    (r"\.out_proj\.", ".o_proj."),
    (r"(text_encoder\..*)\.o_proj\.", r"\1.out_proj."),
]

TRACKER_KEYS = [
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^transformer\.encoder\.", "memory_attention."),
    (r"^maskmem_backbone\.", "memory_encoder."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    (r"\.point_embeddings\.(\d)\.weight$", r".point_embed.\1"),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"mlp\.lin1\.", "mlp.proj_in."),
    (r"mlp\.lin2\.", "mlp.proj_out."),
    (r"(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.1\.", r"\1.proj_out."),
    (r"(proj|head|mlps\.\d+)\.layers\.0\.", r"\1.proj_in."),
    (r"(proj|head|mlps\.\d+)\.layers\.1\.", r"\1.layers.0."),
    (r"(proj|head|mlps\.\d+)\.layers\.2\.", r"\1.proj_out."),
    (r"mask_downsampler\.encoder\.12\.", "mask_downsampler.final_conv."),
    (r"mask_downsampler\.encoder\.(\d+)\.", lambda found: _downsampler(int(found[1]))),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv", ".pointwise_conv"),
    (r"\.gamma$", ".scale"),
    (r"\.norm(\w*)\.", r".layer_norm\1."),
    (r"\.out_proj\.", ".o_proj."),
]


def _downsampler(index: int) -> str:
    return f"mask_downsampler.layers.{index // 3}.{'conv' if index % 3 == 0 else 'layer_norm'}."


def renamed(state: dict[str, torch.Tensor], keys: list[tuple[str, Any]]) -> dict[str, torch.Tensor]:
    """A state of the package under transformers' names."""
    made = {}
    for name, value in state.items():
        for pattern, replacement in keys:
            name = re.sub(pattern, replacement, name)
        if ".in_proj_" in name or ".qkv." in name:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                made[re.sub(r"in_proj_|qkv\.", f"{letter}_proj.", name)] = part
        else:
            made[name] = value
    return made


def transformers_state(detector: torch.nn.Module, tracker: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The package's weights as a whole state of `Sam3VideoModel`."""
    state = {}
    for name, value in renamed(detector.state_dict(), DETECTOR_KEYS).items():
        state[name if name.startswith("tracker_neck.") else f"detector_model.{name}"] = value
    state |= {f"tracker_model.{name}": value for name, value in renamed(tracker.state_dict(), TRACKER_KEYS).items()}
    # transformers stacks the point embeddings, keeps the prompt encoder's random table in two places, has no position
    # for the class token that is not kept, and (in this size) another width of the pooled text, which nobody reads.
    embed = "tracker_model.prompt_encoder.point_embed"
    state[f"{embed}.weight"] = torch.cat([state.pop(f"{embed}.{index}") for index in range(4)])
    table = state["tracker_model.prompt_encoder.shared_embedding.positional_embedding"]
    state["tracker_model.shared_image_embedding.positional_embedding"] = table
    positions = "detector_model.vision_encoder.backbone.embeddings.position_embeddings"
    state[positions] = state[positions][:, 1:]
    del state["detector_model.text_encoder.text_projection.weight"]
    unread = ("freqs_cis", "points_direct_project", "points_pool_project", "points_pos_enc_project")
    return {name: value for name, value in state.items() if not any(part in name for part in unread)}


def shake(detector: torch.nn.Module, tracker: torch.nn.Module) -> None:
    """Random weights of a size at which text, picture and memory all show in the result."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for module, gain in ((detector, 0.8), (tracker, 0.6)):
            for name, parameter in module.named_parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, gain / parameter[0].numel() ** 0.5, generator=generator)
                elif "tpos" in name or name.startswith("no_"):
                    parameter.normal_(0, 0.5, generator=generator)
                else:
                    # Biases and norms are all alike when they are made: two that were mixed up would not show.
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        tracker.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
        tracker.sam_mask_decoder.conv_s0.weight.mul_(20)
