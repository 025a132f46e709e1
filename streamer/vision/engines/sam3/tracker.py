"""The mask-memory tracker of SAM 2, SAM 3 and EdgeTAM, one frame at a time, on a bounded memory.

It runs the modules of transformers' video models piecewise (measured equal to their own sessions; see the tests). What
it adds: objects come and go at any frame, all objects with equally long memories go through the network in one batch,
and nothing that no later frame reads is kept. The private methods of transformers that it needs are used here only.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from streamer.vision.engines.sam3.features import Features
from streamer.vision.engines.sam3.memory import MAX_CONDITIONING, FrameMemory, ObjectMemory

NO_OBJECT = -1024.0
"""Logit of every pixel of an object that is not there."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """Objects on the current frame, one a row."""

    keys: tuple[Hashable, ...]
    logits: torch.Tensor
    """(N, h, w): mask logits on the low-resolution grid stretched over the whole picture."""
    scores: torch.Tensor
    """(N,): > 0, the object is there."""


class Tracker:
    """Tracks the objects of one stream. Calls come in frame order from one thread, under `torch.inference_mode`."""

    def __init__(
        self,
        model: Any,
        *,
        dtype: torch.dtype = torch.float32,
        batch_objects: bool = True,
        max_conditioning: int = MAX_CONDITIONING,
        frame: int = -1,
    ) -> None:
        """`model`: `Sam3TrackerVideoModel`, `Sam2VideoModel` or `EdgeTamVideoModel`, shared by many trackers.

        `frame`: counted on from.
        """
        self._model = model
        # EdgeTAM compresses each memory by its own perceiver, object by object.
        self._piecewise = not hasattr(model, "spatial_perceiver")
        self._batch_objects = batch_objects and self._piecewise
        self.memory = ObjectMemory(
            spatial_frames=model.config.num_maskmem - 1,
            pointer_frames=model.config.max_object_pointers_in_encoder - 1,
            dtype=dtype,
            max_conditioning=max_conditioning,
        )
        self.frame = frame
        """Index of the current frame: counts the frames shown to this tracker."""
        self._features: Features | None = None

    def begin(self, features: Features) -> None:
        """Make a new frame the current one."""
        self.frame += 1
        self._features = features
        self.memory.cache.show(self.frame, features.maps, features.positions)

    def seed(
        self, key: Hashable, *, mask: torch.Tensor | None = None, box: tuple[float, float, float, float] | None = None
    ) -> Tracked:
        """Condition an object on the current frame: a new one, or one more conditioning frame of a known one.

        `mask`: (S, S) 0 or 1 on the network's input; `box`: x0, y0, x1, y1 in pixels of that input.
        """
        points = None
        if mask is None:
            assert box is not None, "a mask or a box"
            device = self._current.maps[-1].device
            points = {
                "point_coords": torch.tensor(box, device=device, dtype=self.memory.dtype).view(1, 1, 2, 2),
                "point_labels": torch.tensor([2, 3], device=device, dtype=torch.int32).view(1, 1, 2),
            }
        output = self._run_one(
            key,
            first=True,
            points=points,
            mask=None if mask is None else mask[None, None].to(self.memory.dtype),
        )
        return self._remember([key], output, conditioning=True, prompted=True)

    def track(self, keys: Collection[Hashable]) -> list[Tracked]:
        """Follow known objects onto the current frame; unknown keys and those seeded on this frame are left out."""
        due = [key for key in keys if key in self.memory and not self._seeded_now(key)]
        if not self._batch_objects:
            return [self._remember([key], self._run_one(key, first=False), conditioning=False) for key in due]
        prepared = {key: self._memory_of(key) for key in due}
        groups: dict[tuple[int, int], list[Hashable]] = {}
        for key, (memory, _, pointers) in prepared.items():
            groups.setdefault((memory.shape[0], pointers), []).append(key)
        done = []
        for (_, pointers), members in groups.items():
            attended = self._attend([prepared[key] for key in members], pointers)
            done.append(self._remember(members, self._decode(attended), conditioning=False))
        return done

    def promote(self, key: Hashable) -> bool:
        """Keep the current frame of an object as a conditioning frame."""
        return self.memory.promote(key, self.frame)

    def objects(self) -> list[Hashable]:
        """Every object that is followed, whether it is there or not."""
        return list(self.memory)

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor held, for counting."""
        return self.memory.tensors()

    def forget(self, key: Hashable) -> None:
        """Drop an object; unknown keys are ignored."""
        self.memory.forget(key)

    def clear(self) -> None:
        """Drop every object; the frame count goes on."""
        self.memory.clear()
        if self._features is not None:
            self.memory.cache.show(self.frame, self._features.maps, self._features.positions)

    def drop_tensors(self) -> None:
        """Free every tensor, but remember which objects there were."""
        self.memory.empty()
        self._features = None

    def close(self) -> None:
        """Free every tensor; twice is fine."""
        self.memory.clear()
        self._features = None

    @property
    def _current(self) -> Features:
        assert self._features is not None, "begin comes first"
        return self._features

    def _seeded_now(self, key: Hashable) -> bool:
        return self.frame in self.memory.output_dict_per_obj[key]["cond_frame_outputs"]

    def _run_one(
        self,
        key: Hashable,
        *,
        first: bool,
        points: dict[str, torch.Tensor] | None = None,
        mask: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """The model's own step for one object."""
        own_memory = {} if self._piecewise else {"run_mem_encoder": True}
        output: dict[str, torch.Tensor] = self._model._run_single_frame_inference(
            inference_session=self.memory,
            frame_idx=self.frame,
            obj_idx=key,
            batch_size=1,
            is_init_cond_frame=first,
            point_inputs=points,
            mask_inputs=mask,
            reverse=False,
            streaming=True,
            **own_memory,
        )
        return output

    def _memory_of(self, key: Hashable) -> tuple[torch.Tensor, torch.Tensor, int]:
        """(L, 1, 64) memory, its position encoding, and how many of the L are pieces of object pointers."""
        model, device = self._model, self._current.maps[-1].device
        frames = model._gather_memory_frame_outputs(self.memory, key, self.frame)
        memories, positions = model._build_memory_attention_inputs(frames, device)
        offsets, tokens, limit = model._get_object_pointers(self.memory, key, self.frame, None, device, False, True)
        pointers, pointer_positions = model._process_object_pointers(
            offsets, tokens, limit, 1, model.hidden_dim, device
        )
        memory = torch.cat([*memories, pointers]).to(self.memory.dtype)
        return memory, torch.cat([*positions, pointer_positions]), int(pointers.shape[0])

    def _attend(self, prepared: list[tuple[torch.Tensor, torch.Tensor, int]], pointers: int) -> torch.Tensor:
        """(N, C, H, W): the picture's coarsest map in the light of each object's memory."""
        count = len(prepared)
        features = self._current
        attended = self._model.memory_attention(
            current_vision_features=features.maps[-1].expand(-1, count, -1),
            current_vision_position_embeddings=features.positions[-1].expand(-1, count, -1),
            memory=torch.cat([memory for memory, _, _ in prepared], dim=1),
            memory_posision_embeddings=torch.cat([position for _, position, _ in prepared], dim=1),
            num_object_pointer_tokens=pointers,
        )
        # One object comes out as (1, 1, HW, C), several as (1, N, HW, C).
        height, width = self._model.backbone_feature_sizes[-1]
        stacked: torch.Tensor = attended.reshape(count, height * width, -1).transpose(1, 2)
        return stacked.reshape(count, -1, height, width)

    def _decode(self, attended: torch.Tensor) -> dict[str, torch.Tensor]:
        """Masks without a prompt, as the model's `_single_frame_forward` does it, for N objects at once."""
        model, count = self._model, attended.shape[0]
        fine = [
            level.permute(1, 2, 0).view(1, -1, *size).expand(count, -1, -1, -1)
            for level, size in zip(self._current.maps[:-1], model.backbone_feature_sizes[:-1], strict=True)
        ]
        sparse, dense = model.prompt_encoder(
            input_points=attended.new_zeros(count, 1, 1, 2),
            input_labels=torch.full((count, 1, 1), -1, dtype=torch.int32, device=attended.device),
            input_boxes=None,
            input_masks=None,
        )
        multimask = bool(model._use_multimask(False, None))
        masks, ious, tokens, scores = model.mask_decoder(
            image_embeddings=attended,
            image_positional_embeddings=model.get_image_wide_positional_embeddings().repeat(count, 1, 1, 1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=fine,
        )
        best = ious.argmax(dim=-1) if multimask else torch.zeros_like(ious[..., 0], dtype=torch.long)
        rows, ones = torch.arange(count, device=best.device), torch.zeros(count, dtype=torch.long, device=best.device)
        best = best[:, 0]
        there = scores > 0  # (N, 1, 1)
        low = torch.where(there[..., None], masks[rows, ones, best][:, None], NO_OBJECT)
        high = F.interpolate(low.float(), size=(model.image_size,) * 2, mode="bilinear", align_corners=False)
        token = tokens[rows, ones, best][:, None] if tokens.shape[2] > 1 else tokens[:, :, 0]
        pointer = model.object_pointer_proj(token)
        present = there.to(pointer.dtype)
        pointer = present * pointer + (1 - present) * model.no_object_pointer
        return {
            "pred_masks": low,
            "high_res_masks": high.to(low.dtype),
            "object_pointer": pointer,
            "object_score_logits": scores,
        }

    def _remember(
        self, keys: list[Hashable], output: dict[str, torch.Tensor], *, conditioning: bool, prompted: bool = False
    ) -> Tracked:
        """Encode the frame's masks into memory and store them, object by object."""
        count = len(keys)
        scores = output["object_score_logits"].reshape(count, 1, 1)
        if self._piecewise:
            features, positions = self._model._encode_new_memory(
                current_vision_feats=self._current.maps[-1].expand(-1, count, -1),
                pred_masks_high_res=output["high_res_masks"],
                object_score_logits=scores,
                is_mask_from_pts=prompted,
            )
        else:
            features, positions = output["maskmem_features"], output["maskmem_pos_enc"]
        for row, key in enumerate(keys):
            memory: FrameMemory = {
                "object_pointer": output["object_pointer"][row : row + 1],
                "object_score_logits": scores[row : row + 1],
                # Of a batch each object owns its part, else one object's memory would keep all others' alive.
                "maskmem_features": _own(features, row, count),
                "maskmem_pos_enc": _own(positions, row, count),
            }
            self.memory.store(key, self.frame, memory, conditioning=conditioning)
        return Tracked(
            tuple(keys), output["pred_masks"].reshape(count, *output["pred_masks"].shape[-2:]), scores.view(-1)
        )


def _own(batched: torch.Tensor, row: int, count: int) -> torch.Tensor:
    """The part of one object out of (HW, N, C), as a tensor of its own."""
    return batched if count == 1 else batched[:, row : row + 1].clone()
