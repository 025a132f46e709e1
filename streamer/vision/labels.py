"""The label map: regions of tracks painted into one byte a pixel. See LABEL_* in `streamer/tracks.py`."""

from __future__ import annotations

import math
from collections.abc import Collection

import cv2
import numpy as np

from streamer.tracks import LABEL_OBJECT, LABEL_PERSON, LABEL_TRACK, Box
from streamer.vision.engines.base import Region

QUANTUM = 1 / 16
"""Of a logit, in the bytes that regions are painted with: a quarter of the memory to move, and 8 logits each way are as
good as certain."""
ZERO = 128
"""The byte of logit 0."""
STALE_SHARE = 0.5
"""What the logits of a region that is not of this frame count where two tracks meet."""


class LabelPainter:
    """Paints the regions of one frame; where two tracks overlap, the higher logit wins."""

    def __init__(self) -> None:
        self._best = np.zeros((0, 0), np.uint8)
        self._labels = np.zeros((0, 0), np.uint8)

    def begin(self, width: int, height: int) -> None:
        """Start an empty map."""
        if self._best.shape != (height, width):
            self._best = np.empty((height, width), np.uint8)
        self._best.fill(ZERO)
        # The map leaves with the result, so each frame gets its own.
        self._labels = np.zeros((height, width), np.uint8)

    def paint(self, region: Region, label: int, fresh: bool = True) -> None:
        """Give `region` to the track with `label`; `fresh`: it is of this frame."""
        placed = place(region, self._labels.shape, 1.0 if fresh else STALE_SHARE)
        if placed is None:
            return
        rows, columns, logits = placed
        best = self._best[rows, columns]
        wins = cv2.compare(logits, best, cv2.CMP_GT)
        cv2.copyTo(logits, wins, best)
        labels = self._labels[rows, columns]
        labels &= ~wins
        labels |= wins & np.uint8(label | LABEL_PERSON)

    def paint_part(self, region: Region, label: int) -> None:
        """Mark the pixels of the track `label` that lie in `region` as its object."""
        placed = place(region, self._labels.shape)
        if placed is None:
            return
        rows, columns, logits = placed
        labels = self._labels[rows, columns]
        hit = (logits > ZERO) & ((labels & LABEL_TRACK) == label)
        np.bitwise_or(labels, np.uint8(LABEL_OBJECT), out=labels, where=hit)

    def paint_people(self, mask: np.ndarray) -> None:
        """Mark (H, W) bool pixels as a person, whoever it is."""
        np.bitwise_or(self._labels, np.uint8(LABEL_PERSON), out=self._labels, where=mask)

    def finish(self) -> np.ndarray:
        """The (H, W) uint8 map; it belongs to the caller."""
        return self._labels


def marked(labels: np.ndarray, wanted: Collection[int]) -> set[int]:
    """Those of `wanted`, tracks' labels, that any pixel of an (H, W) uint8 map has."""
    # Nearly all masks show in every eighth pixel already; only for the others all of them are looked at.
    coarse = np.bincount((labels[::8, ::8] & LABEL_TRACK).ravel(), minlength=LABEL_TRACK + 1)
    return {label for label in wanted if coarse[label] or bool(((labels & LABEL_TRACK) == label).any())}


def place(region: Region, shape: tuple[int, ...], share: float = 1.0) -> tuple[slice, slice, np.ndarray] | None:
    """Rows, columns and logits of `region` at the frame's scale, cut to what is inside; None: nothing is.

    The logits, times `share`, are bytes: `ZERO` + logit / `QUANTUM`, within 0..255.
    """
    height, width = shape[:2]
    inside = mask_box(region, width, height)
    if inside is None:
        return None
    x0, y0, x1, y1 = region.box_xyxy
    grid_rows, grid_columns = region.logits.shape
    first_column, last_column, left, right = _span(inside[0], inside[2], x0, (x1 - x0) / grid_columns, grid_columns)
    first_row, last_row, top, bottom = _span(inside[1], inside[3], y0, (y1 - y0) / grid_rows, grid_rows)
    part = region.logits[first_row:last_row, first_column:last_column]
    # Nearly half a step up: rounding takes nothing from a mask that is barely above zero.
    quantised = cv2.convertScaleAbs(np.clip(part, -7.9, 7.9), alpha=share / QUANTUM, beta=ZERO + 0.499)
    # Whole cells to whole pixels: half a pixel off at most, in a sixth of the time of an affine warp.
    logits = cv2.resize(quantised, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    shown = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    return *shown, logits[shown[0].start - top : shown[0].stop - top, shown[1].start - left : shown[1].stop - left]


def _span(low: float, high: float, origin: float, cell: float, cells: int) -> tuple[int, int, int, int]:
    """Cells that hold the pixels `low`..`high` and one more to each side, and the pixels that these cells cover."""
    first = max(math.floor((low - origin) / cell) - 1, 0)
    last = min(math.ceil((high - origin) / cell) + 1, cells)
    start = round(origin + first * cell)
    return first, last, start, max(round(origin + last * cell), start + 1)


def mask_box(region: Region, width: int, height: int) -> Box | None:
    """Box of the mask of `region` inside a `width` x `height` picture; None: no pixel of it is inside."""
    inside = region.logits > 0
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return None
    x0, y0, x1, y1 = region.box_xyxy
    cell_x, cell_y = (x1 - x0) / inside.shape[1], (y1 - y0) / inside.shape[0]
    left, right = max(x0 + columns[0] * cell_x, 0.0), min(x0 + (columns[-1] + 1) * cell_x, float(width))
    top, bottom = max(y0 + rows[0] * cell_y, 0.0), min(y0 + (rows[-1] + 1) * cell_y, float(height))
    if right - left < 1 or bottom - top < 1:
        return None
    return float(left), float(top), float(right), float(bottom)
