"""Meta's own `sam3` package behind the same port (`backend: meta`): the reference, slower, at 1008 pixels only.

Its concept detector is asked directly; its tracker, which knows only whole videos, is fed one frame at a time: the
state is told of 10^9 frames, the frame's features are put into its cache, and one frame is tracked. No object can be
added to a state once it tracks, so every object has a state of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from streamer.errors import ConfigError, PromptUnsupported
from streamer.vision.engines.sam3.features import Features
from streamer.vision.engines.sam3.network import MAX_CONCEPTS, TEXT_TOKENS, Found, pixels_of
from streamer.vision.engines.sam3.options import Sam3Options
from streamer.vision.engines.sam3.postprocess import keep_distinct
from streamer.vision.engines.sam3.tracker import Tracked

ENDLESS = 10**9
"""Frames that a state is told the video has."""
MOST_OVERLAP = 0.1
"""IoU of two detections from which the weaker one is a duplicate (`det_nms_thresh` of Meta's video model)."""
OBJECT = 1
"""Id of the only object of a state."""


class MetaNetwork:
    """`Network` on Meta's detector and tracker. Not thread-safe: one worker, one thread."""

    family = "sam3"
    resizable = False
    compiled = False

    def __init__(self, detector: Any, tracker: Any, options: Sam3Options) -> None:
        """`detector`: `Sam3Image`; `tracker`: `Sam3TrackerPredictor`, with `detector.backbone` holding both necks."""
        self.detector, self.tracker_model = detector.eval(), tracker.eval()
        self.options = options
        self.device = torch.device(options.device)
        self.image_size = int(tracker.image_size)
        self._text: dict[str, dict[str, torch.Tensor]] = {}

    def tracker(self, frame: int = -1) -> MetaTracker:
        """A fresh tracker for one stream, that counts its frames on from `frame`."""
        return MetaTracker(self.tracker_model, self.device, frame)

    def resize(self, image_size: int) -> None:
        """Raises `ConfigError`: the package is built for one size."""
        raise ConfigError(f"backend meta works at {self.image_size} pixels only, not at {image_size}")

    @torch.inference_mode()
    def encode(self, pictures: Sequence[np.ndarray]) -> list[Features]:
        """Features of each (H, W, 3) uint8 BGR picture."""
        return [self._encode(bgr) for bgr in pictures]

    @torch.inference_mode()
    def find(self, features: Features, concepts: Sequence[str]) -> dict[str, Found]:
        """Instances of each concept, duplicates removed.

        Raises:
            PromptUnsupported: a concept is too long.
        """
        from sam3.model.data_misc import FindStage

        nothing: dict[str, Any] = dict.fromkeys(
            ("input_boxes", "input_boxes_mask", "input_boxes_label", "input_points", "input_points_mask")
        )
        first = torch.tensor([0], device=self.device, dtype=torch.long)
        found = {}
        for concept in concepts:
            with self._precision():
                out = self.detector.forward_grounding(
                    backbone_out={**features.detector, **self._embedding(concept)},
                    find_input=FindStage(img_ids=first, text_ids=first, **nothing),
                    geometric_prompt=self.detector._get_dummy_prompt(),
                    find_target=None,
                )
            likely = out["pred_logits"].float().sigmoid().squeeze(-1)
            if not self.detector.supervise_joint_box_scores:  # else presence is in the scores already
                likely = likely * out["presence_logit_dec"].float().sigmoid()
            scores = likely.view(-1).cpu().numpy()
            sure = np.flatnonzero(scores > self.options.score_threshold)
            logits = out["pred_masks"][0][torch.from_numpy(sure).to(self.device)].float()
            masks = (logits > 0).cpu().numpy()
            kept = keep_distinct(masks, scores[sure], MOST_OVERLAP)
            found[concept] = Found(scores[sure][kept], logits[kept], masks[kept])
        return found

    def check_concept(self, concept: str) -> None:
        """Raises `PromptUnsupported` where `find` would, without a picture."""
        length = len(self.detector.backbone.language_backbone.tokenizer.encode(concept))
        if length > TEXT_TOKENS - 2:
            raise PromptUnsupported(
                f"the object prompt {concept!r} is {length} tokens long: SAM 3 reads {TEXT_TOKENS - 2}; use a noun "
                'phrase such as "red shirt"'
            )

    def _encode(self, bgr: np.ndarray) -> Features:
        mean = torch.full((1, 3, 1, 1), 0.5, device=self.device)
        with self._precision():
            seen = self.detector.backbone.forward_image(pixels_of(bgr, self.image_size, self.device, mean, mean))
            own = seen["sam2_backbone_out"]
            maps = list(own["backbone_fpn"])
            maps[0] = self.tracker_model.sam_mask_decoder.conv_s0(maps[0])
            maps[1] = self.tracker_model.sam_mask_decoder.conv_s1(maps[1])
        size = (int(bgr.shape[0]), int(bgr.shape[1]))
        return Features(maps, list(own["vision_pos_enc"]), seen, size)

    def _embedding(self, concept: str) -> dict[str, torch.Tensor]:
        if concept not in self._text:
            self.check_concept(concept)
            while len(self._text) >= MAX_CONCEPTS:
                del self._text[next(iter(self._text))]
            self._text[concept] = self.detector.backbone.forward_text([concept], device=self.device)
        return self._text[concept]

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 on a GPU, whichever thread asks: the package enters autocast only in the thread that built it."""
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return contextlib.nullcontext()


class MetaTracker:
    """`Tracker` on Meta's `Sam3TrackerPredictor`: one state an object, pruned to what later frames read."""

    def __init__(self, model: Any, device: torch.device, frame: int = -1) -> None:
        self._model = model
        self._device = device
        self._states: dict[Hashable, dict[str, Any]] = {}
        self._features: Features | None = None
        self.frame = frame

    def begin(self, features: Features) -> None:
        """Make a new frame the current one."""
        self.frame += 1
        self._features = features

    def seed(
        self, key: Hashable, *, mask: torch.Tensor | None = None, box: tuple[float, float, float, float] | None = None
    ) -> Tracked:
        """Start an object, anew if it is known: `mask` (S, S) 0 or 1, or `box` in pixels of the network's input."""
        model = self._model
        height, width = self._current.frame_size
        state = model.init_state(
            video_height=height,
            video_width=width,
            num_frames=ENDLESS,
            offload_state_to_cpu=self._device.type == "cpu",
        )
        self._states[key] = state
        self._show(state)
        with self._precision():
            if mask is not None:
                model.add_new_mask(state, self.frame, OBJECT, mask)
            else:
                assert box is not None, "a mask or a box"
                model.add_new_points_or_box(state, self.frame, OBJECT, box=torch.tensor(box) / model.image_size)
            model.propagate_in_video_preflight(state)
        return self._step(key, state)

    def track(self, keys: Collection[Hashable]) -> list[Tracked]:
        """Follow known objects onto the current frame; unknown keys and those seeded on this frame are left out."""
        done = []
        for key in keys:
            state = self._states.get(key)
            if state is not None and self.frame not in state["frames_already_tracked"]:
                self._show(state)
                done.append(self._step(key, state))
        return done

    def promote(self, key: Hashable) -> bool:
        """False: the package's own memory selection decides which frames are read."""
        return False

    def objects(self) -> list[Hashable]:
        """Every object that is followed."""
        return list(self._states)

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor held, for counting."""
        current = [] if self._features is None else [*self._features.maps, *self._features.positions]
        return current + [tensor for state in self._states.values() for tensor in _tensors(state)]

    def forget(self, key: Hashable) -> None:
        """Drop an object; unknown keys are ignored."""
        self._states.pop(key, None)

    def clear(self) -> None:
        """Drop every object; the frame count goes on."""
        self._states.clear()

    def drop_tensors(self) -> None:
        """Free every tensor, but remember which objects there were."""
        self._states = {key: {"frames_already_tracked": {self.frame: {}}} for key in self._states}
        self._features = None

    def close(self) -> None:
        """Free every tensor; twice is fine."""
        self._states.clear()
        self._features = None

    @property
    def _current(self) -> Features:
        assert self._features is not None, "begin comes first"
        return self._features

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self._device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return contextlib.nullcontext()

    def _show(self, state: dict[str, Any]) -> None:
        """Put the current features where the package looks for those of a frame of its video."""
        features = self._current
        image = torch.zeros(1, 3, 1, 1, device=self._device)  # only its batch dimension is read
        seen = {"backbone_fpn": list(features.maps), "vision_pos_enc": list(features.positions)}
        state["cached_features"] = {self.frame: (image, seen)}

    def _step(self, key: Hashable, state: dict[str, Any]) -> Tracked:
        with self._precision():
            steps = self._model.propagate_in_video(
                state, start_frame_idx=self.frame, max_frame_num_to_track=0, reverse=False, tqdm_disable=True
            )
            _, _, low, _, scores = next(iter(list(steps)))
        _prune(self._model, state, self.frame)
        return Tracked((key,), low.reshape(1, *low.shape[-2:]), scores.reshape(-1))


def _prune(model: Any, state: dict[str, Any], frame: int) -> None:
    """Forget what no later frame reads; outputs stay the same: kept are the spatial memory of the newest frames, the
    pointers of a few more, or, with memory selection, the newest good frames."""
    pointers, memories = model.max_obj_ptrs_in_encoder - 1, model.num_maskmem - 1
    whole = state["output_dict"]["non_cond_frame_outputs"]
    if model.use_memory_selection:
        good = [f for f in sorted(whole, reverse=True) if whole[f].get("eff_iou_score", 0) > model.mf_threshold]
        keep = {*good[:pointers], frame}
    else:
        keep = {f for f in whole if f > frame - pointers}
        for index in [f for f in keep if f <= frame - memories]:
            whole[index]["maskmem_features"] = whole[index]["maskmem_pos_enc"] = None
    for index in [f for f in whole if f not in keep]:
        del whole[index]
    for outputs in state["output_dict_per_obj"].values():
        outputs["non_cond_frame_outputs"].clear()  # slices for corrections on past frames, which a stream never makes
    for index in [f for f in state["frames_already_tracked"] if f < frame]:
        del state["frames_already_tracked"][index]
    state["cached_features"].clear()


def _tensors(held: Any) -> Iterator[torch.Tensor]:
    if isinstance(held, torch.Tensor):
        yield held
    elif isinstance(held, dict):
        for value in held.values():
            yield from _tensors(value)
    elif isinstance(held, (list, tuple)):
        for value in held:
            yield from _tensors(value)
