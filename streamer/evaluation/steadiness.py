"""Raw masks against smoothed ones: how much steadier they are, and whether they lag where something moves fast."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from streamer.evaluation.flicker import FLOW_WIDTH, Flicker

FAST = 0.01
"""Of the picture's width, a frame: mean motion of the pixels of a mask from which it counts as fast (13 pixels at 1280,
380 a second at 30 fps)."""


class Steadiness:
    """`step` for every frame in order, `cut` before the first one of a shot, then `report`."""

    def __init__(self) -> None:
        self._raw, self._smoothed = Flicker(), Flicker()
        self._grey: np.ndarray | None = None
        self._overlaps: list[float] = []
        self._speeds: list[float] = []

    def step(self, grey: np.ndarray, raw: dict[int, np.ndarray], smoothed: dict[int, np.ndarray]) -> None:
        """The (H, W) uint8 luma of a frame; raw and smoothed (H, W) bool masks of the same tracks on it."""
        height, width = grey.shape
        size = (FLOW_WIDTH, max(16, round(height * FLOW_WIDTH / width)))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        if raw and self._grey is not None and self._grey.shape == small.shape:
            flow = cv2.calcOpticalFlowFarneback(small, self._grey, np.empty(0), 0.5, 3, 15, 3, 5, 1.2, 0)
            speed = np.hypot(flow[..., 0], flow[..., 1]) / FLOW_WIDTH
            for track, mask in raw.items():
                inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
                if inside.any():
                    self._speeds.append(float(speed[inside].mean()))
                    self._overlaps.append(_overlap(mask, smoothed[track]))
        self._grey = small
        self._raw.step(grey, raw)
        self._smoothed.step(grey, smoothed)

    def cut(self) -> None:
        """The next frame has nothing to do with the last one."""
        self._grey = None
        self._raw.cut()
        self._smoothed.cut()

    def report(self) -> dict[str, Any]:
        """JSON-able. `flicker`: 1 - IoU of consecutive masks, motion-compensated; `overlap_with_raw`: IoU of the
        smoothed mask and the raw one of the same frame, on all masks, on the fastest quarter, and on those that move by
        `FAST` or more."""
        raw, smoothed = self._raw.mean, self._smoothed.mean
        overlaps, speeds = np.array(self._overlaps), np.array(self._speeds)
        quarter = float(np.quantile(speeds, 0.75)) if speeds.size else FAST
        return {
            "flicker": {
                "raw": raw,
                "smoothed": smoothed,
                "ratio": smoothed / raw if raw and smoothed is not None else None,
            },
            "overlap_with_raw": {
                "all": _summary(overlaps, 0.0),
                "fastest_quarter": _summary(overlaps[speeds >= quarter], quarter),
                "fast": _summary(overlaps[speeds >= FAST], FAST),
            },
        }


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else 1.0


def _summary(overlaps: np.ndarray, speed: float) -> dict[str, Any]:
    return {
        "from_speed_widths_per_frame": speed,
        "masks": int(overlaps.size),
        "mean": float(overlaps.mean()) if overlaps.size else None,
        "p5": float(np.quantile(overlaps, 0.05)) if overlaps.size else None,
    }
