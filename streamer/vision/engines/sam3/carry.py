"""Where a face is between two looks for faces: it moves as the person's mask moves around it. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamer.tracks import Box

WINDOW = 1.5
"""Face sides of the window, each way from the face's centre, in which the mask's centre is followed."""
ITERATIONS = 3


@dataclass(frozen=True, slots=True)
class CarriedFace:
    """A face and where the mask's centre lay around it, by mean shift (Comaniciu and Meer, 2002)."""

    box_xyxy: Box
    offset: tuple[float, float]
    """Pixels from the face's centre to the centre of the mask inside the window."""

    @classmethod
    def anchor(cls, face: Box, inside: np.ndarray, frame_size: tuple[int, int]) -> CarriedFace | None:
        """From a detected face and the person's mask (h, w) bool; None: the mask does not reach the face."""
        centre = _centre(face, inside, frame_size)
        if centre is None:
            return None
        return cls(face, (centre[0] - (face[0] + face[2]) / 2, centre[1] - (face[1] + face[3]) / 2))

    def moved(self, inside: np.ndarray, frame_size: tuple[int, int]) -> CarriedFace | None:
        """The face on the next frame's mask; None: it left the mask."""
        box = self.box_xyxy
        for _ in range(ITERATIONS):
            centre = _centre(box, inside, frame_size)
            if centre is None:
                return None
            dx = centre[0] - self.offset[0] - (box[0] + box[2]) / 2
            dy = centre[1] - self.offset[1] - (box[1] + box[3]) / 2
            box = (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)
        return CarriedFace(box, self.offset)


def _centre(face: Box, inside: np.ndarray, frame_size: tuple[int, int]) -> tuple[float, float] | None:
    """Centre in pixels of the mask's cells inside the window around `face`."""
    rows, columns = inside.shape
    cell_y, cell_x = frame_size[0] / rows, frame_size[1] / columns
    x, y = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
    reach_x, reach_y = WINDOW * (face[2] - face[0]), WINDOW * (face[3] - face[1])
    left, right = _range(x - reach_x, x + reach_x, cell_x, columns)
    top, bottom = _range(y - reach_y, y + reach_y, cell_y, rows)
    part = inside[top:bottom, left:right]
    ys, xs = np.nonzero(part)
    if not ys.size:
        return None
    # Weights that fall towards the window's edge: a limb that enters it does not pull the face away at once.
    px, py = (xs + left + 0.5) * cell_x, (ys + top + 0.5) * cell_y
    weights = np.maximum(1 - np.square((px - x) / reach_x) - np.square((py - y) / reach_y), 1e-6)
    total = float(weights.sum())
    return float((px * weights).sum()) / total, float((py * weights).sum()) / total


def _range(low: float, high: float, cell: float, count: int) -> tuple[int, int]:
    return max(int(low / cell), 0), min(max(int(high / cell) + 1, 0), count)
