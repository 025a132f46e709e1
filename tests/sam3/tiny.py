"""The real architectures with random weights, small enough for a CPU: SAM 3, SAM 2 and EdgeTAM."""

from __future__ import annotations

import torch
from transformers import (
    CLIPTokenizer,
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3Config,
    Sam3TrackerVideoConfig,
    Sam3VideoConfig,
    Sam3VideoModel,
)

SIZE, PATCH = 112, 14
HIDDEN = 128  # the memories' 64 channels are hard-coded, and the pointers are split into pieces of that width
OTHER_SIZE = 128

MASK_DECODER = {
    "hidden_size": HIDDEN,
    "mlp_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": HIDDEN,
}
MEMORY = {
    "memory_attention_hidden_size": HIDDEN,
    "memory_attention_num_layers": 2,
    "memory_encoder_hidden_size": HIDDEN,
    "mask_downsampler_embed_dim": HIDDEN,
    "memory_fuser_embed_dim": HIDDEN,
    "memory_fuser_intermediate_dim": 64,
}


def vision_config(size: int = SIZE) -> dict[str, object]:
    grid = size // PATCH
    return {
        "model_type": "sam3_vision_model",
        "fpn_hidden_size": HIDDEN,
        "scale_factors": [4.0, 2.0, 1.0, 0.5],
        "backbone_feature_sizes": [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": size,
            "patch_size": PATCH,
            "window_size": 8,
            "global_attn_indexes": [1],
            "pretrain_image_size": 112,
        },
    }


def sam3_config(size: int = SIZE) -> Sam3VideoConfig:
    grid = size // PATCH
    layer = {"hidden_size": HIDDEN, "num_attention_heads": 2, "intermediate_size": 64}
    detector = Sam3Config(
        vision_config=vision_config(size),
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": 1000,
            "hidden_size": 32,
            "intermediate_size": 64,
            "projection_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "hidden_act": "gelu",
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        geometry_encoder_config={**layer, "num_layers": 1},
        detr_encoder_config={**layer, "num_layers": 1},
        detr_decoder_config={**layer, "num_layers": 2, "num_queries": 10},
        mask_decoder_config={"hidden_size": HIDDEN, "num_attention_heads": 2},
    )
    tracker = Sam3TrackerVideoConfig(
        vision_config=vision_config(size),
        prompt_encoder_config={
            "hidden_size": HIDDEN,
            "image_size": size,
            "patch_size": PATCH,
            "mask_input_channels": 4,
        },
        mask_decoder_config=MASK_DECODER,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[grid, grid],
        image_size=size,
        **MEMORY,
    )
    return Sam3VideoConfig(
        detector_config=detector.to_dict(), tracker_config=tracker.to_dict(), low_res_mask_size=4 * grid
    )


def sam3_model(seed: int = 0, size: int = SIZE, *, lively: bool = True) -> Sam3VideoModel:
    """`lively`: weights so large that memory shows in the masks; without it nothing that is forgotten would."""
    torch.manual_seed(seed)
    model = Sam3VideoModel(sam3_config(size)).eval()
    if lively:
        enliven(model.tracker_model)
    return model


def enliven(tracker: torch.nn.Module, gain: float = 0.6, offset: float = 0.03) -> None:
    """Make a random tracker's masks depend on its memory, and its objects be there.

    At 0.6 one forgotten memory changes logits by 1e-3 and rounding dies out again; from about 1.0 on such a network is
    chaotic, and any two orders of summation drift apart.
    """
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in tracker.named_parameters():
            if name.startswith("vision_encoder"):
                continue
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, gain / fan_in**0.5, generator=generator)
            elif "memory_temporal" in name or "no_" in name:
                parameter.normal_(0, 0.5, generator=generator)
        # Fine detail of the picture decides where a mask is, so that none is all of the picture or none of it.
        tracker.mask_decoder.conv_s0.weight.mul_(20)
        for head in tracker.mask_decoder.output_hypernetworks_mlps:
            head.proj_out.bias.fill_(offset)
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(4.0)


def tokenizer() -> CLIPTokenizer:
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        vocabulary[letter] = len(vocabulary)
        vocabulary[letter + "</w>"] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=[])


def sam2_model(seed: int = 0) -> Sam2VideoModel:
    torch.manual_seed(seed)
    config = Sam2VideoConfig(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 12,
                "num_channels": 3,
                "image_size": [OTHER_SIZE, OTHER_SIZE],
                "patch_kernel_size": [7, 7],
                "patch_stride": [4, 4],
                "patch_padding": [3, 3],
                "blocks_per_stage": [1, 2, 1, 1],
                "embed_dim_per_stage": [12, 24, 48, 96],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [8, 4, 8, 8],
                "window_positional_embedding_background_size": [7, 7],
                "global_attention_blocks": [2],
            },
            "backbone_channel_list": [96, 48, 24, 12],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": HIDDEN,
        },
        prompt_encoder_config={
            "hidden_size": HIDDEN,
            "image_size": OTHER_SIZE,
            "patch_size": 16,
            "mask_input_channels": 4,
        },
        mask_decoder_config=MASK_DECODER,
        image_size=OTHER_SIZE,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[8, 8],
        **MEMORY,
    )
    model = Sam2VideoModel(config).eval()
    enliven(model)
    return model


def edgetam_model(seed: int = 0) -> EdgeTamVideoModel:
    torch.manual_seed(seed)
    config = EdgeTamVideoConfig(
        vision_config={
            "model_type": "edgetam_vision_model",
            "backbone_config": {
                "model_type": "timm_wrapper",
                "architecture": "repvit_m1",
                "num_classes": 2,
                "label_names": ["a", "b"],
                "do_pooling": False,
                "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
            },
            "backbone_channel_list": [384, 192, 96, 48],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": HIDDEN,
        },
        prompt_encoder_config={
            "hidden_size": HIDDEN,
            "image_size": OTHER_SIZE,
            "patch_size": 16,
            "mask_input_channels": 4,
        },
        mask_decoder_config=MASK_DECODER,
        image_size=OTHER_SIZE,
        memory_attention_mlp_hidden_size=64,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_attention_rope_k_sizes=[4, 4],
        perceiver_resampler_num_latents=16,
        perceiver_resampler_num_latents_2d=16,
        **MEMORY,
    )
    model = EdgeTamVideoModel(config).eval()
    enliven(model, offset=0.3)
    return model


def refuse_batches(encoder: torch.nn.Module) -> None:
    """Let the image encoder be out of memory for more than one picture at once."""

    def full(module: object, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
        pixels = kwargs.get("pixel_values", args[0] if args else None)
        if pixels is not None and pixels.shape[0] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    encoder.register_forward_pre_hook(full, with_kwargs=True)
