"""The current picture of one stream, and the objects on it.

Everything that runs on the device for a stream goes through here, so that running out of memory is met in one place:
what was given up, the picture is encoded anew, every object is seeded again from its newest mask, and keeps its key.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from streamer.errors import VisionUnavailable
from streamer.tracks import Box
from streamer.vision.engines.base import Picture
from streamer.vision.engines.sam3.features import Features
from streamer.vision.engines.sam3.geometry import scaled
from streamer.vision.engines.sam3.headroom import Headroom, OutOfHeadroom
from streamer.vision.engines.sam3.meta import MetaNetwork, MetaTracker
from streamer.vision.engines.sam3.network import Found, Network
from streamer.vision.engines.sam3.postprocess import clean
from streamer.vision.engines.sam3.tracker import Tracked, Tracker

log = logging.getLogger(__name__)

Key = tuple[int, str | None]
"""Of an object: the track and, for a part of it, the phrase."""

MAX_STEPS_DOWN = 8


@dataclass(slots=True)
class Seen:
    """An object on the current picture."""

    logits: np.ndarray
    """(h, w) float32 on a grid over the whole picture, holes filled."""
    score: float
    """Object score logit; > 0: it is there."""

    @property
    def there(self) -> bool:
        return self.score > 0

    @property
    def mask(self) -> np.ndarray:
        """(h, w) bool"""
        return self.logits > 0


class Scene:
    """Under `torch.inference_mode`, from one thread: `show`, then the rest for that picture."""

    def __init__(self, network: Network | MetaNetwork, headroom: Headroom) -> None:
        self.network = network
        self._headroom = headroom
        self._generation = headroom.generation
        self._tracker: Tracker | MetaTracker = network.tracker()
        self._picture: Picture | None = None
        self._features: Features | None = None
        self._found: dict[str, Found] = {}
        self._newest: dict[Key, np.ndarray] = {}
        self._refused_at: int | None = None
        self.seen: dict[Key, Seen] = {}
        """Objects that were tracked or seeded on the current picture."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the picture in pixels."""
        assert self._picture is not None, "encode comes first"
        return int(self._picture.bgr.shape[0]), int(self._picture.bgr.shape[1])

    @property
    def frame(self) -> int:
        """Index of the picture among those shown."""
        return self._tracker.frame

    @property
    def stale(self) -> bool:
        """The network was changed (by another stream's step down) since the last picture."""
        return self._generation != self._headroom.generation

    @property
    def full(self) -> bool:
        """No further object can be followed."""
        return len(self._tracker.objects()) >= self._headroom.object_limit

    def keys(self) -> list[Key]:
        """Every object that is followed, whether it is there or not."""
        return [key for key in self._tracker.objects() if isinstance(key, tuple)]

    def __contains__(self, key: Key) -> bool:
        return key in self._tracker.objects()

    def show(self, picture: Picture, features: Features | None = None) -> None:
        """Make `picture` the current one; `features`: of it, where they are known already."""
        self._picture = picture
        self._found.clear()
        self.seen.clear()
        if features is None or self.stale:
            features = self._encoded()
        if self.stale:
            self._renew(features)
        else:
            self._features = features
            self._tracker.begin(features)

    def find(self, concepts: Sequence[str]) -> dict[str, Found]:
        """Instances of (at least) `concepts`; each is sought once a picture, all new ones in one batch."""
        self._keep_up()
        missing = [concept for concept in dict.fromkeys(concepts) if concept not in self._found]
        if missing:
            features = self._features
            assert features is not None, "encode comes first"
            try:
                self._found.update(self._headroom.run(lambda: self.network.find(features, missing)))
            except OutOfHeadroom:
                self._renew(self._encoded())
                return self.find(concepts)
        return self._found

    def track(self, keys: Collection[Key]) -> None:
        """Carry objects onto the picture; those already `seen` on it and unknown ones are left alone."""
        self._keep_up()
        due = [key for key in keys if key not in self.seen and key in self]
        if not due:
            return
        try:
            for tracked in self._headroom.run(lambda: self._tracker.track(due)):
                self._note(tracked)
        except OutOfHeadroom:
            self._renew(self._encoded())

    def seed(self, key: Key, *, grid: torch.Tensor | None = None, box: Box | None = None) -> bool:
        """Condition an object on a mask (any grid over the picture, inside where > 0) or on a box in pixels.

        False: no further object can be followed.
        """
        self._keep_up()
        if key not in self and self.full:
            if self._refused_at != self._headroom.object_limit:
                log.warning("%d objects are followed already; no more are started", self._headroom.object_limit)
            self._refused_at = self._headroom.object_limit
            return False
        side = self.network.image_size
        mask = None
        if grid is not None:
            grown = F.interpolate(grid[None, None].float(), size=(side, side), mode="bilinear", align_corners=False)
            mask = (grown[0, 0] > 0).float()
        on_input = None if box is None else scaled(box, self.size, (side, side))
        try:
            self._note(self._headroom.run(lambda: self._tracker.seed(key, mask=mask, box=on_input)))
        except OutOfHeadroom:
            self._renew(self._encoded())
            return self.seed(key, grid=grid, box=box)
        return True

    def promote(self, key: Key) -> None:
        """Keep this picture as a conditioning frame of the object."""
        self._tracker.promote(key)

    def forget(self, key: Key) -> None:
        """Stop following an object; unknown keys are ignored."""
        self._tracker.forget(key)
        self.seen.pop(key, None)
        self._newest.pop(key, None)

    def clear(self) -> None:
        """Stop following every object; the picture stays."""
        self._tracker.clear()
        self.seen.clear()
        self._newest.clear()

    def close(self) -> None:
        """Free every tensor; twice is fine."""
        self.clear()
        self._tracker.close()
        self._picture = self._features = None
        self._found.clear()

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor that is kept from picture to picture, for counting."""
        return self._tracker.tensors()

    def _keep_up(self) -> None:
        """Another stream stepped down after this picture was encoded: features and memories are of the old network."""
        if self.stale:
            self._renew(self._encoded())

    def _note(self, tracked: Tracked) -> None:
        """Take the tracker's answer to the CPU, once for all objects in it."""
        logits = tracked.logits.float().cpu().numpy()
        scores = tracked.scores.float().cpu().tolist()
        for key, grid, score in zip(tracked.keys, logits, scores, strict=True):
            assert isinstance(key, tuple)
            self.seen[key] = Seen(clean(grid) if score > 0 else grid, score)
            if score > 0:
                self._newest[key] = self.seen[key].logits

    def _encoded(self) -> Features:
        """Features of the picture, after as many steps down as it takes."""
        assert self._picture is not None, "encode comes first"
        bgr = self._picture.bgr
        for _ in range(MAX_STEPS_DOWN):
            try:
                return self._headroom.run(lambda: self.network.encode([bgr])[0])
            except OutOfHeadroom:
                self._free_old()
        raise VisionUnavailable("the device's memory is full at every step down: free memory on it")

    def _free_old(self) -> None:
        """Memories are in the way, and void after a step down; keys and newest masks are all that a new start needs."""
        self._features = None
        self._tracker.drop_tensors()
        self._generation = -1

    def _renew(self, features: Features) -> None:
        """A fresh tracker on `features`; objects are seeded from their newest masks, as many as are allowed now."""
        keys = sorted((key for key in self.keys() if key in self._newest), key=lambda key: key[1] is not None)
        frame = self._tracker.frame
        self._tracker.close()
        self._tracker = self.network.tracker(frame)
        self._generation = self._headroom.generation
        self._found.clear()
        self.seen.clear()
        self._features = features
        self._tracker.begin(features)
        allowed = self._headroom.object_limit
        for key in keys[allowed:]:
            self._newest.pop(key)
        for key in keys[:allowed]:
            self.seed(key, grid=torch.from_numpy(self._newest[key]).to(self.network.device))
