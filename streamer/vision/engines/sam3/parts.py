"""Parts of people ("shirt", "hair"): detected now and then, cut to the person, in between tracked as objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from streamer.vision.engines.sam3.association import overlap, parts_of
from streamer.vision.engines.sam3.geometry import on_grid
from streamer.vision.engines.sam3.scene import Key, Scene, Seen

SAME_PART = 0.5
"""Overlap (IoU) of a tracked part with the newly detected one below which it is seeded anew."""
RETRY_FRAMES = 5
"""Frames between two looks for a part that is not there."""
UNWANTED_FRAMES = 30
"""Frames after which a part that nobody asks for any more is forgotten."""
GONE_LOOKS = 2
"""Looks in a row that find no such part on the person, after which a tracked one is not believed any more."""


@dataclass(slots=True)
class _Part:
    """What is known of a part beside its memory."""

    wanted: int
    """Frame on which it was asked for last."""
    looked: int | None = None
    """Frame on which the detector looked for it last."""
    missed: int = 0
    """Looks in a row without it."""


class Parts:
    """The parts that are asked for on one stream."""

    def __init__(self, scene: Scene, refresh_frames: int) -> None:
        """`refresh_frames`: between two detections of a part that is there."""
        self._scene = scene
        self._refresh_frames = refresh_frames
        self._parts: dict[Key, _Part] = {}

    def wanted(self, track_ids: set[int]) -> list[Key]:
        """Parts of these tracks that somebody still asks for: to be tracked together with the people."""
        return [key for key in self._parts if key[0] in track_ids]

    def due(self) -> list[str]:
        """Phrases that the detector will be asked for on this picture: to be sought together with the people."""
        frame, seen = self._scene.frame, self._scene.seen
        return [
            key[1]
            for key, part in self._parts.items()
            if key[1] is not None and frame - part.wanted <= 1 and self._due(part, seen.get(key))
        ]

    def see(self, key: Key, person: Seen) -> Seen | None:
        """The part on the current picture, cut to the person; None: it is not to be seen."""
        scene, frame = self._scene, self._scene.frame
        part = self._parts.setdefault(key, _Part(frame))
        part.wanted = frame
        scene.track([key])
        if self._due(part, scene.seen.get(key)):
            self._look(key, part, person)
        seen = scene.seen.get(key)
        if seen is None or not seen.there:
            return None
        both = Seen(np.minimum(seen.logits, person.logits), seen.score)
        return both if both.mask.any() else None

    def retire(self, unwanted_frames: int = UNWANTED_FRAMES) -> None:
        """Forget the parts that nobody has asked for on so many pictures."""
        frame = self._scene.frame
        for key in [key for key, part in self._parts.items() if frame - part.wanted >= unwanted_frames]:
            self.forget(key)

    def forget(self, key: Key) -> None:
        """Drop a part; unknown keys are ignored."""
        self._parts.pop(key, None)
        self._scene.forget(key)

    def forget_of(self, track_id: int) -> None:
        """Drop every part of a track."""
        for key in [key for key in self._parts if key[0] == track_id]:
            self.forget(key)

    def clear(self) -> None:
        """Drop every part."""
        for key in list(self._parts):
            self.forget(key)

    def _due(self, part: _Part, seen: Seen | None) -> bool:
        if part.looked is None:
            return True
        since = self._scene.frame - part.looked
        there = seen is not None and seen.there and not part.missed
        return since >= (self._refresh_frames if there else RETRY_FRAMES)

    def _look(self, key: Key, part: _Part, person: Seen) -> None:
        """Detect the part (every phrase that is wanted now shares the batch); seed it, or confirm the tracked one."""
        scene = self._scene
        part.looked = scene.frame
        # Those that were asked for on the picture before will be asked for on this one too.
        wanted = [k[1] for k, state in self._parts.items() if k[1] is not None and scene.frame - state.wanted <= 1]
        phrase = key[1]
        assert phrase is not None, "a part has a phrase"
        found = scene.find([phrase, *wanted])[phrase]
        joined = parts_of(person.mask, on_grid(found.masks, person.logits.shape))
        if joined is None:
            part.missed += 1
            if part.missed >= GONE_LOOKS:
                scene.forget(key)
            return
        part.missed = 0
        seen = scene.seen.get(key)
        if seen is not None and seen.there and float(overlap(joined, seen.mask[None])[0]) >= SAME_PART:
            scene.promote(key)
            return
        scene.forget(key)
        scene.seed(key, grid=torch.from_numpy(joined.astype(np.float32)).to(scene.network.device) - 0.5)
