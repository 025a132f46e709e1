"""Temporal smoothing of masks that does not lag.

The last smoothed logits are moved to where the person is now and blended in, but only where the new ones are unsure: a
confident pixel is taken as it comes, so a moving limb leaves no shadow; a border that wavers is held still. Averaging
whole masks over a window, the common way, makes them trail behind the person.
"""

from __future__ import annotations

import cv2
import numpy as np

from streamer.tracks import Box
from streamer.vision.engines.base import Region

UNSURE = 2.5
"""Logit at which the past counts half of what it counts at 0."""
PAST_SHARE = 0.85
"""Of the past, at a logit of 0 and strength 1."""
HOLD = 0.5
"""Logits that a pixel's label resists a change by, at strength 1 (hysteresis)."""
AGREE = 0.6
"""Overlap (IoU) of the moved past and the present below which the past is dropped: the person has changed shape."""


class Smoother:
    """Of one stream; one state a track (or a track's part). Bounded by the number of keys."""

    def __init__(self, strength: float) -> None:
        """`strength`: 0 raw … 1 steadiest."""
        self._strength = strength
        self._past: dict[object, Region] = {}

    def step(self, key: object, region: Region) -> Region:
        """`region` smoothed with what `key` had before; grids of any size, boxes anywhere."""
        past = self._past.get(key)
        if self._strength > 0 and past is not None:
            region = self._blend(past, region)
        self._past[key] = region
        return region

    def forget(self, key: object) -> None:
        """Drop the state of `key`; unknown keys are ignored."""
        self._past.pop(key, None)

    def keep(self, keys: set[object]) -> None:
        """Drop every state but those of `keys`."""
        for key in self._past.keys() - keys:
            del self._past[key]

    def reset(self) -> None:
        """A shot cut: nothing of the past is used."""
        self._past.clear()

    def _blend(self, past: Region, now: Region) -> Region:
        moved = carry(past, now)
        present = now.logits
        inside, was = present > 0, moved > 0
        union = int(np.count_nonzero(inside | was))
        if union == 0 or np.count_nonzero(inside & was) / union < AGREE:
            return now
        share = self._strength * PAST_SHARE / (1 + np.square(present / UNSURE))
        logits = present + share * (moved - present)
        logits += np.where(was, np.float32(HOLD * self._strength), np.float32(-HOLD * self._strength)) * share
        return Region(now.box_xyxy, logits.astype(np.float32, copy=False), now.presence, now.face_xyxy)


def carry(past: Region, now: Region) -> np.ndarray:
    """(h, w) float32 on the grid of `now`: the logits of `past`, moved by the person's motion between the two.

    The motion is that of the face where both regions know it (it does not depend on the mask's own wavering), else that
    of the masks' centres.
    """
    height, width = now.logits.shape
    to_past_x = (now.box_xyxy[2] - now.box_xyxy[0]) / width
    to_past_y = (now.box_xyxy[3] - now.box_xyxy[1]) / height
    rows, columns = past.logits.shape
    cell_x = (past.box_xyxy[2] - past.box_xyxy[0]) / columns
    cell_y = (past.box_xyxy[3] - past.box_xyxy[1]) / rows
    shift_x, shift_y = motion(past, now)
    # Grid cell of `now` -> pixel -> back along the motion -> grid cell of `past` (centres of cells at +0.5).
    matrix = np.array(
        [
            [
                to_past_x / cell_x,
                0,
                (now.box_xyxy[0] + 0.5 * to_past_x - shift_x - past.box_xyxy[0]) / cell_x - 0.5,
            ],
            [
                0,
                to_past_y / cell_y,
                (now.box_xyxy[1] + 0.5 * to_past_y - shift_y - past.box_xyxy[1]) / cell_y - 0.5,
            ],
        ]
    )
    moved: np.ndarray = cv2.warpAffine(
        past.logits,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=-8.0,
    )
    return moved


def motion(past: Region, now: Region) -> tuple[float, float]:
    """Pixels that the person moved from `past` to `now`."""
    if past.face_xyxy is not None and now.face_xyxy is not None:
        (ax, ay), (bx, by) = _centre(past.face_xyxy), _centre(now.face_xyxy)
        return bx - ax, by - ay
    before, after = _mask_centre(past), _mask_centre(now)
    if before is None or after is None:
        return 0.0, 0.0
    return after[0] - before[0], after[1] - before[1]


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _mask_centre(region: Region) -> tuple[float, float] | None:
    moments = cv2.moments((region.logits > 0).astype(np.uint8), binaryImage=True)
    if moments["m00"] <= 0:
        return None
    x0, y0, x1, y1 = region.box_xyxy
    rows, columns = region.logits.shape
    x, y = moments["m10"] / moments["m00"] + 0.5, moments["m01"] / moments["m00"] + 0.5
    return x0 + x * (x1 - x0) / columns, y0 + y * (y1 - y0) / rows
