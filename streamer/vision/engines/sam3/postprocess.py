"""Duplicates, holes and crumbs of masks. transformers wants a hub kernel for these and silently skips them without."""

from __future__ import annotations

import cv2
import numpy as np

HOLE_CELLS = 16
"""Cells of the mask grid: larger holes and crumbs stay (`fill_hole_area` of SAM 3's own video model)."""
FILLED, CLEARED = 0.1, -0.1
"""Logits of a filled hole and of a removed crumb: just over and under the edge, as the reference has it."""


def keep_distinct(masks: np.ndarray, scores: np.ndarray, most_overlap: float) -> list[int]:
    """Positions of the masks (N, h, w) bool that stay, best score first: of any two that overlap by more than
    `most_overlap` (IoU), the one with the lower score goes. Empty masks go too."""
    if not masks.shape[0]:
        return []
    flat = masks.reshape(masks.shape[0], -1)
    areas = flat.sum(axis=1).astype(np.int64)
    order = [int(index) for index in np.argsort(-scores, kind="stable") if areas[index]]
    counts = flat.astype(np.float32)
    both = counts @ counts.T
    kept: list[int] = []
    for index in order:
        either = areas[index] + areas[kept] - both[index, kept]
        if not kept or float((both[index, kept] / either).max()) <= most_overlap:
            kept.append(index)
    return kept


def clean(logits: np.ndarray, most_cells: int = HOLE_CELLS) -> np.ndarray:
    """(h, w) float32 logits with small holes filled and small crumbs removed; a new array where anything changed.

    Crumbs go only if they are also smaller than half of the mask: a tiny object is not a crumb.
    """
    inside = logits > 0
    holes = _small(~inside, most_cells)
    if holes is not None:
        logits = np.where(holes, np.float32(FILLED), logits)
        inside = logits > 0
    crumbs = _small(inside, min(most_cells, int(inside.sum()) // 2))
    if crumbs is not None:
        logits = np.where(crumbs, np.float32(CLEARED), logits)
    return logits


def _small(mask: np.ndarray, most_cells: int) -> np.ndarray | None:
    """(h, w) bool: pixels of 8-connected components of up to `most_cells`; None: there are none."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    small = stats[:, cv2.CC_STAT_AREA] <= most_cells
    small[0] = False
    return small[labels] if count > 1 and small.any() else None
