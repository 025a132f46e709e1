"""The synthetic engine: an ellipse on a fixed path. It measures transport and draws demos where no model is.

Its one person is where the clock says, whatever the picture shows; every phrase is answered with the ellipse's middle.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence

import numpy as np

from streamer.tracks import Box
from streamer.vision.engines.base import Instance, Picture, Region

GRID = 64
PERIOD_SECONDS = 6.0
"""Time of one round."""
REACH = 0.3
"""Share of the picture's sides that the centre moves to each side of the middle."""
RADIUS_X, RADIUS_Y = 0.1, 0.3
"""Of the ellipse, as shares of the picture's width and height."""
PERSON_CONCEPT = "person"


def ellipse_box(pts_seconds: float, width: int, height: int) -> Box:
    """Box of the ellipse at a time, in pixels of a `width` x `height` picture; always inside it."""
    angle = 2 * math.pi * pts_seconds / PERIOD_SECONDS
    x = width * (0.5 + REACH * math.sin(angle))
    y = height * (0.5 + 0.15 * math.sin(2 * angle))
    return x - RADIUS_X * width, y - RADIUS_Y * height, x + RADIUS_X * width, y + RADIUS_Y * height


class SyntheticEngine:
    """`MaskEngine` without a model. `delay_seconds` passes in every `propagate`, as in a real one."""

    name = "synthetic"

    def __init__(self, delay_seconds: float = 0.0) -> None:
        self._delay_seconds = delay_seconds
        self._tracks: set[int] = set()
        self._picture: Picture | None = None
        ys, xs = (np.mgrid[0:GRID, 0:GRID].astype(np.float32) + 0.5) / (GRID / 2) - 1
        self._logits = ((1 - np.hypot(xs, ys)) * 8).astype(np.float32)
        self._middle = np.where(np.abs(ys) < 0.4, self._logits, np.float32(-8.0))

    def encode(self, picture: Picture) -> None:
        """See `MaskEngine`."""
        self._picture = picture

    def detect(self, concepts: Sequence[str]) -> list[Instance]:
        """The ellipse, for the concept "person"."""
        picture = self._current
        height, width = picture.bgr.shape[:2]
        box = ellipse_box(picture.pts_seconds, width, height)
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        mask = np.hypot((xs - x) / (RADIUS_X * width), (ys - y) / (RADIUS_Y * height)) < 1
        return [Instance(concept, 1.0, box, mask) for concept in concepts if concept == PERSON_CONCEPT]

    def prompt(
        self,
        track_id: int,
        *,
        face_xyxy: Box | None = None,
        box_xyxy: Box | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """See `MaskEngine`; where the prompt lies makes no difference."""
        self._tracks.add(track_id)

    def propagate(self, due: Collection[int]) -> dict[int, Region]:
        """See `MaskEngine`."""
        if self._delay_seconds > 0:
            time.sleep(self._delay_seconds)
        box = self._box()
        return {track_id: Region(box, self._logits, 1.0) for track_id in due if track_id in self._tracks}

    def part(self, track_id: int, phrase: str) -> Region | None:
        """See `MaskEngine`: the middle of the ellipse, whatever the phrase."""
        return Region(self._box(), self._middle, 1.0) if track_id in self._tracks else None

    def check_phrase(self, phrase: str) -> None:
        """See `MaskEngine`: every phrase is fine."""

    def remove(self, track_id: int) -> None:
        """See `MaskEngine`."""
        self._tracks.discard(track_id)

    def reset(self) -> None:
        """See `MaskEngine`."""
        self._tracks.clear()

    def close(self) -> None:
        """See `MaskEngine`."""
        self._tracks.clear()
        self._picture = None

    @property
    def _current(self) -> Picture:
        assert self._picture is not None, "encode comes first"
        return self._picture

    def _box(self) -> Box:
        picture = self._current
        height, width = picture.bgr.shape[:2]
        return ellipse_box(picture.pts_seconds, width, height)
