"""Alpha channels: the mask of the chosen people with a soft edge that follows the picture."""

from __future__ import annotations

import cv2
import numpy as np

from streamer.egress.planes import bounding_rect, soften, solid
from streamer.offline.cast import Cast
from streamer.tracks import FrameResult

_EPSILON = 40.0
"""Variance of luma below which the guide counts as flat: the edge is then as soft as the window is wide."""


def chosen_mask(result: FrameResult, cast: Cast) -> np.ndarray:
    """(H, W) uint8 0 or 1: the pixels of the members (of their object, where one is asked for)."""
    mask = np.zeros((result.height, result.width), bool)
    for track in cast.seen(result):
        if cast.object is None:
            mask |= result.mask(track)
        elif track.object_prompt is not None:
            mask |= result.object_mask(track)
    return mask.view(np.uint8)


def soft(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 0..255 from a 0/1 mask: the edge blurred over some pixels. Quick, and steady from frame to frame."""
    alpha = np.zeros_like(mask)
    box = 2 * round(mask.shape[0] / 480) + 3
    rect = bounding_rect(mask, pad=box)
    if rect is not None:
        alpha[rect.luma] = soften(solid(mask[rect.luma]), box)
    return alpha


def matte(mask: np.ndarray, luma: np.ndarray) -> np.ndarray:
    """(H, W) uint8 0..255 from a 0/1 mask: the edge drawn to the picture's own edges.

    A guided filter (He, Sun, Tang, "Guided Image Filtering", 2010) with the luma as its guide: masks come from a coarse
    grid, the picture knows better where hair and shoulders end.

    Args:
        mask: (H, W) uint8, 0 or 1.
        luma: (H, W) uint8.
    """
    alpha = np.zeros_like(mask)
    person = float(np.sqrt(max(1, int(np.count_nonzero(mask)))))
    radius = int(min(max(3, round(person / 40)), 40))
    rect = bounding_rect(mask, pad=3 * radius)
    if rect is None:
        return alpha
    guide = luma[rect.luma].astype(np.float32)
    wanted = solid(mask[rect.luma]).astype(np.float32)
    filtered = _guided(guide, wanted, radius)
    # Far from the edge the mask is certain: the guide must neither fill holes of its own nor leave a veil.
    near = cv2.blur(solid(mask[rect.luma]), (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REPLICATE)
    surely = np.where(near == 255, np.float32(255), np.float32(0))
    perhaps = np.where(near > 0, np.float32(255), np.float32(0))
    contrast = np.clip((filtered - 127.5) * 1.6 + 127.5, 0, 255)
    alpha[rect.luma] = np.clip(contrast, surely, perhaps).astype(np.uint8)
    return alpha


def _guided(guide: np.ndarray, wanted: np.ndarray, radius: int) -> np.ndarray:
    box = (2 * radius + 1, 2 * radius + 1)

    def mean(values: np.ndarray) -> np.ndarray:
        averaged: np.ndarray = cv2.blur(values, box, borderType=cv2.BORDER_REFLECT)
        return averaged

    mean_guide, mean_wanted = mean(guide), mean(wanted)
    variance = mean(guide * guide) - mean_guide * mean_guide
    covariance = mean(guide * wanted) - mean_guide * mean_wanted
    slope = covariance / (variance + _EPSILON)
    offset = mean_wanted - slope * mean_guide
    filtered: np.ndarray = mean(slope) * guide + mean(offset)
    return filtered


def rgba(bgr: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 BGRA, as OpenCV writes it; colours under alpha 0 are black, so that nothing hides there."""
    picture: np.ndarray = cv2.merge((*cv2.split(cv2.copyTo(bgr, alpha)), alpha))
    return picture
