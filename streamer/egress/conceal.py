"""Making people unrecognisable: frosted glass that keeps so few values per face that nothing can be undone."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from streamer.egress.planes import Planes, Rect, bounding_rect, even_rect, fade, halve, solid
from streamer.tracks import Box

_COARSE = 4
"""Concealing masks are grown at a quarter of the size: cheap, and the way back up gives the soft edge."""
_CELLS_IN_HEIGHT = 20
_CELLS_IN_FACE = 4
_FACE_MARGIN = 0.35
"""Of the face box's sides, on each side: hair, ears and chin are part of what makes a face known."""


def conceal_all(planes: Planes) -> None:
    """Frost a whole picture, in place."""
    height, width = planes[0].shape
    cell = max(8, round(min(width, height) / 10))
    for plane, step in zip(planes, (cell, cell // 2, cell // 2), strict=True):
        plane[:] = _frost(plane, step)


def conceal(planes: Planes, mask: np.ndarray, faces: Iterable[Box], keep: np.ndarray | None = None) -> None:
    """Frost the pixels of `mask`, a margin around them, and the boxes of `faces`, in place.

    Args:
        planes: the picture.
        mask: (H, W) uint8, 0 or 1.
        faces: boxes in pixels; they are grown first.
        keep: (H, W) uint8, 0 or 1: pixels that stay as they are, whatever the mask and the faces say.
    """
    height, width = mask.shape
    margin = max(2 * _COARSE, round(height / 90))
    boxes = [rect for face in faces if (rect := _grown(face, width, height)) is not None]
    around = [rect for rect in (bounding_rect(mask, margin + _COARSE), *boxes) if rect is not None]
    if not around:
        return
    rect = _aligned(around, width, height)
    alpha = _soft_alpha(mask, boxes, keep, rect, margin)
    cell = max(8.0, height / _CELLS_IN_HEIGHT, *(box.width / (1 + 2 * _FACE_MARGIN) / _CELLS_IN_FACE for box in boxes))
    luma = planes[0][rect.luma]
    frosted = [_frost(luma, cell)] + [_frost(plane[rect.chroma], cell / 2) for plane in planes[1:]]
    fade(planes, rect, frosted, alpha)


def _frost(plane: np.ndarray, cell: float) -> np.ndarray:
    """`plane` with one value per `cell` pixels, smoothed: what is lost is lost."""
    height, width = plane.shape
    while cell > 8 and min(plane.shape) > 8:
        plane, cell = halve(plane), cell / 2
    height_left, width_left = plane.shape
    grid = max(1, round(width_left / cell)), max(1, round(height_left / cell))
    # The blur over neighbouring cells also spoils adding up many frames of a moving face.
    small = cv2.blur(cv2.resize(plane, grid, interpolation=cv2.INTER_AREA), (3, 3), borderType=cv2.BORDER_REPLICATE)
    frosted: np.ndarray = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return frosted


def _grown(face: Box, width: int, height: int) -> Rect | None:
    x0, y0, x1, y1 = face
    dx, dy = (x1 - x0) * _FACE_MARGIN, (y1 - y0) * _FACE_MARGIN
    return even_rect(x0 - dx, y0 - dy, x1 + dx, y1 + dy, width, height)


def _aligned(rects: list[Rect], width: int, height: int) -> Rect:
    """The rectangle around all, on the coarse grid where the picture's size allows it."""
    x0, y0 = min(r.x0 for r in rects), min(r.y0 for r in rects)
    x1, y1 = max(r.x1 for r in rects), max(r.y1 for r in rects)
    step = _COARSE
    return Rect(
        x0 // step * step, y0 // step * step, min(width, -(-x1 // step) * step), min(height, -(-y1 // step) * step)
    )


def _soft_alpha(mask: np.ndarray, boxes: list[Rect], keep: np.ndarray | None, rect: Rect, margin: int) -> np.ndarray:
    """(h, w) of `rect`: 255 on every pixel to conceal, falling to 0 within the margin outside."""
    size = max(1, -(-rect.width // _COARSE)), max(1, -(-rect.height // _COARSE))
    # Halving is fast and exact in steps of two only; a single pixel of 255 is still 16 after two of them.
    coarse = halve(halve(solid(mask[rect.luma])))
    coarse = cv2.resize(cv2.threshold(coarse, 0, 255, cv2.THRESH_BINARY)[1], size, interpolation=cv2.INTER_NEAREST)
    for box in boxes:
        middle = (box.x0 + box.x1) / 2 - rect.x0, (box.y0 + box.y1) / 2 - rect.y0
        size_of_box = box.width / _COARSE, box.height / _COARSE
        # The ellipse inside the grown box covers the corners of the face box itself.
        cv2.ellipse(coarse, ((middle[0] / _COARSE, middle[1] / _COARSE), size_of_box, 0.0), (255,), -1)
    reach = 1 + max(2, -(-margin // _COARSE))
    coarse = cv2.dilate(coarse, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    # Rounds the steps of the coarse grid; the cell more above keeps the promise for every pixel of the mask.
    coarse = cv2.blur(coarse, (3, 3), borderType=cv2.BORDER_REPLICATE)
    alpha: np.ndarray = cv2.resize(coarse, (rect.width, rect.height), interpolation=cv2.INTER_LINEAR)
    if keep is not None:
        alpha = cv2.subtract(alpha, solid(keep[rect.luma]))
    return alpha
