"""Whether a face still looks as it did a moment ago: a cheap hint, without a model, that somebody came between.

It decides nothing. A turned head changes as much as a stranger in front does; what it means, the next look at the faces
says, which comes sooner for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import cv2
import numpy as np

from streamer.tracks import Box

SIDE = 12
"""Pixels a side of the patch that a face is shrunk to."""
BACK = 4
"""Frames over which patches are compared: people who pass need no longer."""
JUMPED = 0.35
"""Correlation with the frame before, below which it is another picture: a cut between two people before one backdrop
gives 0.1, heads that turn and gesture 0.46 and more."""
CHANGED = 0.2
"""Correlation over `BACK` frames below which it is; a lively singer's own is mostly above 0.35."""


class Appearance:
    """Patches of the faces of one stream's tracks. Bounded: `BACK` + 1 small patches a track."""

    def __init__(self) -> None:
        self._patches: dict[int, deque[np.ndarray]] = {}

    def step(self, luma: np.ndarray, faces: Mapping[int, Box]) -> bool:
        """Whether any of these tracks' `faces` has become another picture on this frame; other tracks are forgotten."""
        for track in self._patches.keys() - faces.keys():
            del self._patches[track]
        # All of them take their patch, whatever the first one says.
        return any([self.changed(track, luma, face) for track, face in faces.items()])

    def changed(self, track: int, luma: np.ndarray, face_xyxy: Box) -> bool:
        """Take the face of `track` on this frame, (H, W) uint8 luma; whether it is another picture than before."""
        patch = _patch(luma, face_xyxy)
        if patch is None:
            self.forget(track)
            return False
        past = self._patches.setdefault(track, deque(maxlen=BACK + 1))
        past.append(patch)
        jumped = len(past) > 1 and float((past[-2] * patch).sum()) < JUMPED
        if not jumped and (len(past) <= BACK or float((past[0] * patch).sum()) >= CHANGED):
            return False
        past.clear()
        past.append(patch)
        return True

    def forget(self, track: int) -> None:
        """Drop the patches of `track`; unknown ones are ignored."""
        self._patches.pop(track, None)

    def reset(self) -> None:
        """A shot cut."""
        self._patches.clear()


def _patch(luma: np.ndarray, face_xyxy: Box) -> np.ndarray | None:
    """(SIDE, SIDE) float32 of mean 0 and length 1; None where too little of the face is in the picture."""
    height, width = luma.shape
    x0, y0, x1, y1 = (round(value) for value in face_xyxy)
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height or min(x1 - x0, y1 - y0) < SIDE:
        return None
    patch = cv2.resize(luma[y0:y1, x0:x1], (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    patch -= patch.mean()
    unit: np.ndarray = patch / max(float(np.linalg.norm(patch)), 1e-6)
    return unit
