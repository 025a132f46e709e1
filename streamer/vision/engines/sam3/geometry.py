"""Boxes and masks on one grid or another. numpy and OpenCV only."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from streamer.tracks import Box


def box_of(mask: np.ndarray) -> Box:
    """Box of the pixels of a mask (h, w) bool; all zero for an empty one."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not ys.size:
        return 0.0, 0.0, 0.0, 0.0
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)


def scaled(box: Box, size: Sequence[int], to: Sequence[int]) -> Box:
    """`box` on a grid of `size` (h, w), on another one."""
    y, x = to[0] / size[0], to[1] / size[1]
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def box_overlap(one: Box, other: Box) -> float:
    """Intersection over union, 0..1."""
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    either = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both
    return both / max(either, 1e-9)


def on_grid(masks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(N, h, w) bool masks, on a grid of `shape` (h, w)."""
    if not masks.shape[0] or masks.shape[1:] == shape:
        return masks
    size = (shape[1], shape[0])
    return np.stack([cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5 for m in masks])


def sigmoid(logit: float) -> float:
    """0..1"""
    return float(1 / (1 + np.exp(-np.clip(logit, -30, 30))))
