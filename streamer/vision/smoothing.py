"""Temporal smoothing of masks that does not lag.

The picture says where a mask may change. The last smoothed logits are moved along the picture's own motion (dense flow,
so that each limb goes its own way) and averaged with the new ones where the moved picture and the present one agree: a
border that wavers, or a piece that comes and goes, over a picture that stays the same is held still. Where the picture
did change, was hidden or moves fast, the new logits are taken as they come. Averaging whole masks over a window, the
common way, makes them trail behind the person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from streamer.vision.engines.base import Region
from streamer.vision.motion import Motion, MotionSeeker, Sight

FADE = 0.09
"""Share of the present in the average at strength 1, where the picture stays the same; at strength s it is `FADE ** s`:
0.3 at 0.5, so that a label which the engine surely changed its mind about changes on the second frame."""
HOLD = 0.5
"""Logits that a label resists a change by (hysteresis)."""
CERTAIN = 8.0
"""Logits beyond which nothing is more certain: engines differ in scale, and a past of 100 would outvote many frames."""
AGREE = 0.3
"""Overlap (IoU) of the moved past and the present below which the past is dropped: it is another person or shape."""

BORDER_WINDOW = (31, 31)
"""Small pixels around a border, whose motion inside the mask is the border's."""
DEEP = 16.0
"""Small pixels from the border from where on the flow inside a mask is not mixed with that of its surroundings."""


@dataclass(frozen=True, slots=True)
class _Past:
    """What is known of a track, and on what picture."""

    region: Region
    """Averaged."""
    sight: Sight


class Smoother:
    """Of one stream: `show` for each frame, then `step` for each region on it.

    One state a track (or a track's part): bounded by the number of keys.
    """

    def __init__(self, strength: float) -> None:
        """`strength`: 0 raw … 1 steadiest."""
        self._share = 1 - FADE**strength
        self._seeker = MotionSeeker()
        self._past: dict[object, _Past] = {}
        self._i420: np.ndarray | None = None
        self._sight: Sight | None = None
        self._motions: dict[int, Motion | None] = {}

    def show(self, i420: np.ndarray) -> None:
        """Make an (H * 3 // 2, W) uint8 picture the current one; it is read until the next `show`."""
        self._i420, self._sight = i420, None
        self._motions.clear()

    def step(self, key: object, region: Region) -> Region:
        """`region` of the current picture, smoothed with what `key` had before; grids of any size, boxes anywhere."""
        if self._share <= 0:
            return region
        sight, past = self._current(), self._past.get(key)
        averaged = shown = region
        if past is not None:
            motion = self._motion(past.sight)
            if motion is not None:
                averaged, shown = blend(past.region, region, motion, sight.scale, self._share)
        self._past[key] = _Past(averaged, sight)
        return shown

    def forget(self, key: object) -> None:
        """Drop the state of `key`; unknown keys are ignored."""
        self._past.pop(key, None)

    def reset(self) -> None:
        """A shot cut: nothing of the past is used."""
        self._past.clear()

    def _current(self) -> Sight:
        if self._sight is None:
            assert self._i420 is not None, "show comes first"
            self._sight = Sight.of(self._i420)
        return self._sight

    def _motion(self, past: Sight) -> Motion | None:
        """Since `past`, sought once a frame for all tracks that were seen then."""
        if id(past) not in self._motions:
            self._motions[id(past)] = self._seeker.seek(self._current(), past)
        return self._motions[id(past)]


def blend(past: Region, now: Region, motion: Motion, scale: tuple[float, float], share: float) -> tuple[Region, Region]:
    """`now` averaged with `past`, which counts `share` (0..1) at most, and the same with labels held (hysteresis).

    `scale`: small pixels a pixel of the frame.
    """
    rows, columns = motion.trust.shape
    across = _Axis.of(now.box_xyxy[0::2], now.logits.shape[1], scale[0], columns)
    down = _Axis.of(now.box_xyxy[1::2], now.logits.shape[0], scale[1], rows)
    if across is None or down is None:
        return now, now
    logits = np.clip(now.logits, -CERTAIN, CERTAIN)
    present = logits[down.cells, across.cells]
    inside = present > 0
    moved, trust = carry(past, motion, inside, across, down, scale)
    was = moved > 0
    either = np.count_nonzero(inside | was)
    if either == 0 or np.count_nonzero(inside & was) < AGREE * either:
        return now, now
    trust *= np.float32(share)
    # What is held must not get into the average: it would add up over the frames, and trail.
    hold = np.copysign(trust * np.float32(HOLD), moved)
    moved -= present
    moved *= trust
    present += moved
    held = logits.copy()
    held[down.cells, across.cells] += hold
    averaged, shown = (Region(now.box_xyxy, grid, now.presence, now.face_xyxy) for grid in (logits, held))
    return averaged, shown


@dataclass(frozen=True, slots=True)
class _Axis:
    """A grid's cells along one axis of the small picture, as far as they lie in it."""

    cells: slice
    pixels: slice
    """Of the small picture, that these cells cover."""
    at: np.ndarray
    """Where the cells' centres lie, float32, in small pixels (centre of the first one: 0)."""

    @classmethod
    def of(cls, span: tuple[float, ...], count: int, scale: float, length: int) -> _Axis | None:
        """Of `count` cells over `span` (low, high) pixels of the frame; None: not one of them is in the picture."""
        low, high = span
        cell = (high - low) / count * scale
        first = max(round(-low * scale / cell), 0)
        last = min(round((length - low * scale) / cell), count)
        if first >= last:
            return None
        start, end = low * scale + first * cell, low * scale + last * cell
        pixels = slice(min(max(math.floor(start), 0), length - 1), min(math.ceil(end), length))
        at = np.arange(first, last, dtype=np.float32) * np.float32(cell) + np.float32(low * scale + cell / 2 - 0.5)
        return cls(slice(first, last), pixels, at)


def carry(
    past: Region, motion: Motion, inside: np.ndarray, across: _Axis, down: _Axis, scale: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32, twice, on the cells of the two axes: the logits of `past`, moved as the picture moved, and how
    far to believe them, 0..1. `inside`: the present mask on them."""
    size = (across.at.size, down.at.size)
    # The flow is smooth: that its pixels and the cells do not quite meet matters little, so a resize will do.
    here = (down.pixels, across.pixels)
    around = _outwards(motion.x[here], motion.y[here], motion.trust[here], inside)
    x, y, trust = (cv2.resize(map_, size, interpolation=cv2.INTER_LINEAR) for map_ in around)
    x += across.at
    y += down.at[:, None]
    rows, columns = past.logits.shape
    for map_, low, high, count, factor in (
        (x, past.box_xyxy[0], past.box_xyxy[2], columns, scale[0]),
        (y, past.box_xyxy[1], past.box_xyxy[3], rows, scale[1]),
    ):
        cell = (high - low) / count * factor
        map_ *= np.float32(1 / cell)
        map_ += np.float32((0.5 - low * factor) / cell - 0.5)
    moved: np.ndarray = cv2.remap(
        past.logits, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=-CERTAIN
    )
    np.clip(moved, -CERTAIN, CERTAIN, out=moved)
    return moved, trust


def _outwards(
    x: np.ndarray, y: np.ndarray, trust: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A part of a `Motion`, but around the border that of the mask's inside (normalised convolution; Knutsson and
    Westin, 1993): a border moves with the person, not with the wall behind, and dense flow blurs the two together."""
    size = (x.shape[1], x.shape[0])
    small = (cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    # Deep inside, the flow is the person's alone.
    weight = np.minimum(cv2.distanceTransform(small, cv2.DIST_L2, 3), np.float32(DEEP))
    weight *= weight
    near = cv2.boxFilter(weight, cv2.CV_32F, BORDER_WINDOW)
    known = near > 1.0
    factor = 1 / np.maximum(near, np.float32(1.0))

    def outwards(map_: np.ndarray) -> np.ndarray:
        return np.where(known, cv2.boxFilter(map_ * weight, cv2.CV_32F, BORDER_WINDOW) * factor, map_)

    return outwards(x), outwards(y), np.minimum(outwards(trust), trust)
