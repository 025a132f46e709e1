"""What the tracker remembers of its objects: bounded, whatever the length of the stream.

The stock inference sessions of transformers keep every frame's pixels, masks and memories (12 MB a frame and 5 MB an
object at full size). What the model reads again is far less: of the conditioning frames everything, of the last 6
frames the spatial memory, of the last 15 the object pointer (Ravi et al., "SAM 2: Segment Anything in Images and
Videos", 2024). Forgetting the rest at once changes no output.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import torch

MAX_CONDITIONING = 4
"""Conditioning frames kept an object, the newest. The model attends to 4 at most (`max_cond_frame_num`)."""

FrameMemory = dict[str, torch.Tensor]
"""Of one object on one frame, with the keys that transformers' models read: `object_pointer` (1, 1, C),
`maskmem_features` (HW, 1, 64), `maskmem_pos_enc` (HW, 1, 64), `object_score_logits` (1, 1, 1)."""


class ObjectMemory:
    """Memories of all objects of one stream, keyed by whatever hashable the caller likes.

    It answers what the private methods of transformers' tracker models ask of an inference session
    (`output_dict_per_obj`, `cache`, `dtype`, `num_frames`), so those run on it unchanged. Frame indices count the
    frames that were shown to the tracker, without gaps.
    """

    def __init__(
        self,
        *,
        spatial_frames: int,
        pointer_frames: int,
        dtype: torch.dtype,
        max_conditioning: int = MAX_CONDITIONING,
    ) -> None:
        """`spatial_frames`, `pointer_frames`: how many past frames the model reads them of (6 and 15)."""
        self._spatial_frames = spatial_frames
        self._pointer_frames = pointer_frames
        self._max_conditioning = max_conditioning
        self.dtype = dtype
        self.num_frames = 1
        self.cache = _CurrentFeatures()
        self.output_dict_per_obj: dict[Hashable, dict[str, dict[int, FrameMemory]]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self.output_dict_per_obj

    def __iter__(self) -> Iterator[Hashable]:
        return iter(list(self.output_dict_per_obj))

    def __len__(self) -> int:
        return len(self.output_dict_per_obj)

    def store(self, key: Hashable, frame: int, memory: FrameMemory, *, conditioning: bool) -> None:
        """Remember `memory`, and forget of this object what no later frame reads."""
        outputs = self.output_dict_per_obj.setdefault(key, {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}})
        outputs["non_cond_frame_outputs"].pop(frame, None)
        outputs["cond_frame_outputs" if conditioning else "non_cond_frame_outputs"][frame] = memory
        self._prune(outputs, frame)

    def promote(self, key: Hashable, frame: int) -> bool:
        """Make a tracked frame a conditioning frame: it is then read for as long as it is among the newest few.

        False: there is nothing to promote on that frame.
        """
        outputs = self.output_dict_per_obj.get(key)
        memory = outputs["non_cond_frame_outputs"].pop(frame, None) if outputs is not None else None
        if outputs is None or memory is None:
            return False
        outputs["cond_frame_outputs"][frame] = memory
        self._prune(outputs, frame)
        return True

    def forget(self, key: Hashable) -> None:
        """Drop an object; unknown keys are ignored."""
        self.output_dict_per_obj.pop(key, None)

    def clear(self) -> None:
        """Drop every object and the current features."""
        self.output_dict_per_obj.clear()
        self.cache.clear()

    def empty(self) -> None:
        """Drop every tensor; the keys stay."""
        for outputs in self.output_dict_per_obj.values():
            for frames in outputs.values():
                frames.clear()
        self.cache.clear()

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor held, for counting."""
        held = [
            tensor
            for outputs in self.output_dict_per_obj.values()
            for frames in outputs.values()
            for memory in frames.values()
            for tensor in memory.values()
        ]
        return held + self.cache.tensors()

    def bytes(self) -> int:
        """Bytes of the storages behind `tensors`, each counted once."""
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in self.tensors()}
        return sum(storages.values())

    def _prune(self, outputs: dict[str, dict[int, FrameMemory]], frame: int) -> None:
        conditioning, tracked = outputs["cond_frame_outputs"], outputs["non_cond_frame_outputs"]
        for old in sorted(conditioning)[: -self._max_conditioning]:
            del conditioning[old]
        # The next frame is `frame + 1`: it reads pointers of frames + 1 - n … and memories of frames + 1 - m ….
        for old in [index for index in tracked if index <= frame - self._pointer_frames]:
            del tracked[old]
        for index, memory in tracked.items():
            if index <= frame - self._spatial_frames:
                memory.pop("maskmem_features", None)
                memory.pop("maskmem_pos_enc", None)


class _CurrentFeatures:
    """Image features of the current frame, as transformers' models ask a session's cache for them."""

    def __init__(self) -> None:
        self._frame = -1
        self._features: dict[str, list[torch.Tensor]] | None = None

    def show(self, frame: int, maps: list[torch.Tensor], positions: list[torch.Tensor]) -> None:
        self._frame = frame
        self._features = {"vision_feats": maps, "vision_pos_embeds": positions}

    def get_vision_features(self, frame_idx: int) -> dict[str, list[torch.Tensor]] | None:
        return self._features if frame_idx == self._frame else None

    def clear(self) -> None:
        self._frame, self._features = -1, None

    def tensors(self) -> list[torch.Tensor]:
        return [tensor for maps in (self._features or {}).values() for tensor in maps]
