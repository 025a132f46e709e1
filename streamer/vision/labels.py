"""The label map: regions of tracks painted into one byte a pixel. See LABEL_* in `streamer/tracks.py`."""

from __future__ import annotations

import math

import cv2
import numpy as np

from streamer.tracks import LABEL_OBJECT, LABEL_PERSON, LABEL_TRACK, Box
from streamer.vision.engines.base import Region

STALE_SHARE = 0.5
"""What the logits of a region that is not of this frame count where two tracks meet."""


class LabelPainter:
    """Paints the regions of one frame; where two tracks overlap, the higher logit wins."""

    def __init__(self) -> None:
        self._best = np.zeros((0, 0), np.float32)
        self._labels = np.zeros((0, 0), np.uint8)

    def begin(self, width: int, height: int) -> None:
        """Start an empty map."""
        if self._best.shape != (height, width):
            self._best = np.zeros((height, width), np.float32)
        else:
            self._best.fill(0)
        # The map leaves with the result, so each frame gets its own.
        self._labels = np.zeros((height, width), np.uint8)

    def paint(self, region: Region, label: int, fresh: bool = True) -> None:
        """Give `region` to the track with `label`; `fresh`: it is of this frame."""
        placed = place(region, self._labels.shape)
        if placed is None:
            return
        rows, columns, logits = placed
        if not fresh:
            logits *= STALE_SHARE
        best = self._best[rows, columns]
        wins = logits > best
        np.copyto(best, logits, where=wins)
        np.copyto(self._labels[rows, columns], np.uint8(label | LABEL_PERSON), where=wins)

    def paint_part(self, region: Region, label: int) -> None:
        """Mark the pixels of the track `label` that lie in `region` as its object."""
        placed = place(region, self._labels.shape)
        if placed is None:
            return
        rows, columns, logits = placed
        labels = self._labels[rows, columns]
        hit = (logits > 0) & ((labels & LABEL_TRACK) == label)
        np.bitwise_or(labels, np.uint8(LABEL_OBJECT), out=labels, where=hit)

    def paint_people(self, mask: np.ndarray) -> None:
        """Mark (H, W) bool pixels as a person, whoever it is."""
        np.bitwise_or(self._labels, np.uint8(LABEL_PERSON), out=self._labels, where=mask)

    def finish(self) -> np.ndarray:
        """The (H, W) uint8 map; it belongs to the caller."""
        return self._labels


def place(region: Region, shape: tuple[int, ...]) -> tuple[slice, slice, np.ndarray] | None:
    """Rows, columns and float32 logits of `region` at the frame's scale, cut to what is inside; None: nothing is."""
    height, width = shape[:2]
    inside = mask_box(region, width, height)
    if inside is None:
        return None
    x0, y0, x1, y1 = region.box_xyxy
    left, top = max(math.floor(inside[0]) - 1, 0), max(math.floor(inside[1]) - 1, 0)
    right, bottom = min(math.ceil(inside[2]) + 1, width), min(math.ceil(inside[3]) + 1, height)
    grid_rows, grid_columns = region.logits.shape
    scale_x, scale_y = grid_columns / (x1 - x0), grid_rows / (y1 - y0)
    # Centre of pixel p of the cut-out lies at left + p + 0.5 in the frame, cell c of the grid at (c + 0.5) / scale.
    matrix = np.array(
        [
            [scale_x, 0, (left + 0.5 - x0) * scale_x - 0.5],
            [0, scale_y, (top + 0.5 - y0) * scale_y - 0.5],
        ]
    )
    logits = cv2.warpAffine(
        region.logits,
        matrix,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return slice(top, bottom), slice(left, right), logits


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
