"""Which instance belongs to which face, and which parts belong to a person. numpy and scipy: any engine may use it.

SAM 3 finds every "person"; whose face is whose decides who is followed. Never the other way round: a face given to the
detector as an exemplar means "find all like this".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped,unused-ignore]

from streamer.tracks import Box

FACE_COVERED = 0.5
"""Share of the inner face that an instance must cover to be that face's person."""
INNER_FACE = (0.2, 0.15, 0.2, 0.1)
"""Cut off a face box (left, top, right, bottom, as shares of its sides): corners hold hair and background."""
HEADROOM = 2.0
"""Face heights between the instance's top and the face's top from which the face is hardly its own (a child)."""
LOW_FACE_WEIGHT = 0.5
PART_INSIDE = 0.5
"""Share of a part's pixels that lie on the person from which the part is the person's."""
PERSON_BOX = (3.0, 7.0, 0.5)
"""Of a person from a face: widths, heights, and heights above the face's top."""


def assign_faces(
    masks: np.ndarray, scores: Sequence[float], faces: Sequence[Box], frame_size: tuple[int, int]
) -> dict[int, int]:
    """Faces to instances, one to one: {face's position: instance's position}; faces that nobody covers are left out.

    The Hungarian method (Kuhn, 1955) on covered share of the inner face x score; among the faces of one instance the
    one near its top wins.

    Args:
        masks: (N, h, w) bool on any grid stretched over the frame.
        scores: of the instances, 0..1.
        faces: pixels of the frame.
        frame_size: (H, W) of the frame.
    """
    if not len(faces) or not masks.shape[0]:
        return {}
    fit = np.zeros((len(faces), masks.shape[0]), np.float64)
    tops = mask_tops(masks) * (frame_size[0] / masks.shape[1])
    for row, face in enumerate(faces):
        covered = face_covered(masks, face, frame_size)
        height = max(face[3] - face[1], 1e-6)
        low = (face[1] - tops) / height > HEADROOM
        fit[row] = np.where(covered >= FACE_COVERED, covered * np.asarray(scores), 0.0)
        fit[row] *= np.where(low, LOW_FACE_WEIGHT, 1.0)
    rows, columns = linear_sum_assignment(-fit)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if fit[row, column] > 0}


def face_covered(masks: np.ndarray, face: Box, frame_size: tuple[int, int]) -> np.ndarray:
    """(N,) share 0..1 of the inner face (inside the frame) that each mask covers; 0 for a face outside the frame."""
    height, width = frame_size
    rows, columns = masks.shape[1:]
    x0, y0, x1, y1 = face
    left, top, right, bottom = INNER_FACE
    x0, x1 = x0 + left * (x1 - x0), x1 - right * (x1 - x0)
    y0, y1 = y0 + top * (y1 - y0), y1 - bottom * (y1 - y0)
    column = _cells(x0, x1, columns / width, columns)
    row = _cells(y0, y1, rows / height, rows)
    inner = masks[:, row, column]
    if inner.size == 0:
        return np.zeros(masks.shape[0])
    covered: np.ndarray = inner.reshape(masks.shape[0], -1).mean(axis=1)
    return covered


def box_around(face: Box, frame_size: tuple[int, int]) -> Box:
    """About where the person of a face is, inside the frame: 3 face widths by 7 face heights."""
    x0, y0, x1, y1 = face
    width, height = x1 - x0, y1 - y0
    middle, top = (x0 + x1) / 2, y0 - PERSON_BOX[2] * height
    return (
        max(middle - PERSON_BOX[0] / 2 * width, 0.0),
        max(top, 0.0),
        min(middle + PERSON_BOX[0] / 2 * width, float(frame_size[1])),
        min(top + PERSON_BOX[1] * height, float(frame_size[0])),
    )


def parts_of(person: np.ndarray, parts: np.ndarray) -> np.ndarray | None:
    """(h, w) bool: the person AND those of `parts` (N, h, w) that lie at least half on it; None: no such part."""
    if not parts.shape[0]:
        return None
    areas = np.maximum(parts.reshape(parts.shape[0], -1).sum(axis=1), 1)
    inside = (parts & person).reshape(parts.shape[0], -1).sum(axis=1)
    own = parts[inside / areas >= PART_INSIDE]
    if not own.shape[0]:
        return None
    joined: np.ndarray = own.any(axis=0) & person
    return joined if joined.any() else None


def overlap(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) intersection over union, 0..1, of the mask (h, w) with each of (N, h, w)."""
    both = (others & one).reshape(others.shape[0], -1).sum(axis=1)
    either = (others | one).reshape(others.shape[0], -1).sum(axis=1)
    shares: np.ndarray = both / np.maximum(either, 1)
    return shares


def mask_tops(masks: np.ndarray) -> np.ndarray:
    """(N,) first row with a pixel of each mask; the number of rows for an empty one."""
    filled = np.asarray(masks.any(axis=2))
    tops: np.ndarray = np.where(filled.any(axis=1), filled.argmax(axis=1), masks.shape[1])
    return tops


def _cells(low: float, high: float, scale: float, count: int) -> slice:
    """Cells of the grid that the interval covers, at least one where it lies inside the frame."""
    if high <= 0 or low * scale >= count:
        return slice(0, 0)
    first = min(max(int(low * scale), 0), count - 1)
    return slice(first, min(max(int(np.ceil(high * scale)), first + 1), count))
