"""How the picture moved between two frames, from small luma pictures. numpy and OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.frames import planes

LONG_SIDE = 256
"""Pixels of the longer side of the small picture: dense flow on it costs about 1 ms, and a border's waver is finer."""
SHORTEST_SIDE = 36
"""Pixels: the flow's coarsest level needs as many."""
RESIDUAL = 12.0
"""Levels of luma (of 255) that the moved past may differ by from the present before it is believed half as much."""
RESIDUAL_WINDOW = (5, 5)
SPEED = 0.005
"""Of the long side, a frame (6 pixels at 1280): from here on the past is believed less than half, and soon not at all.
Fast motion hides a border's waver from the eye, and is where flow errs and a mask that is held would trail."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A frame, small."""

    luma: np.ndarray
    """(h, w) uint8"""
    scale: tuple[float, float]
    """Small pixels a pixel of the frame, along x and along y."""

    @classmethod
    def of(cls, i420: np.ndarray) -> Sight:
        """Of an (H * 3 // 2, W) uint8 picture."""
        luma = planes(i420)[0]
        height, width = luma.shape
        factor = LONG_SIDE / max(height, width)
        size = (max(round(width * factor), SHORTEST_SIDE), max(round(height * factor), SHORTEST_SIDE))
        small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
        return cls(small, (size[0] / width, size[1] / height))


@dataclass(frozen=True, slots=True)
class Motion:
    """For each pixel of the newer sight: where it was on the older one. Three (h, w) float32 maps."""

    x: np.ndarray
    """Columns further to the right that it was."""
    y: np.ndarray
    """Rows further down."""
    trust: np.ndarray
    """0..1, in the past at that place: low where the picture changed, was hidden, or moves fast."""


class MotionSeeker:
    """Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", 2016), with a check of what
    it says against the pictures. Not thread-safe: it keeps its buffers."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._at: tuple[np.ndarray, np.ndarray] | None = None

    def seek(self, now: Sight, past: Sight) -> Motion | None:
        """From `now` back to `past`; None: the two are of different sizes."""
        if now.luma.shape != past.luma.shape:
            return None
        flow = self._search.calc(now.luma, past.luma, None)
        x, y = cv2.split(flow)
        column, row = self._grid(now.luma.shape)
        moved = cv2.remap(past.luma, column + x, row + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        residual = cv2.boxFilter(cv2.absdiff(moved, now.luma), cv2.CV_32F, RESIDUAL_WINDOW)
        speed = (x * x + y * y) * np.float32(1 / (SPEED * LONG_SIDE) ** 2)
        residual *= np.float32(1 / RESIDUAL)
        trust = 1 / ((1 + residual * residual) * (1 + speed * speed))
        return Motion(x, y, trust)

    def _grid(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(1, w) and (h, 1): columns and rows."""
        if self._at is None or (self._at[1].shape[0], self._at[0].shape[1]) != shape:
            self._at = np.arange(shape[1], dtype=np.float32)[None], np.arange(shape[0], dtype=np.float32)[:, None]
        return self._at
