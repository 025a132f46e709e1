"""Masks of the frames between two that vision saw: carried along the optical flow, from both sides.

Each mask is warped once, at its own resolution, along a displacement that is chained from frame to frame at a small
one (dense inverse search: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", 2016). A frame between is a
mix of what comes from the frame before it and from the one after it, by distance in time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from streamer.frames import Frame
from streamer.tracks import LABEL_OBJECT, LABEL_PERSON, LABEL_TRACK, MAX_TRACKS, Box, FrameResult, Track
from streamer.vision.labels import marked
from streamer.vision.tracking import clip_box

_FLOW_SIDE = 256
"""Pixels of the longer side of the pictures that motion is read from."""
_MASK_SIDE = 720
"""Pixels of the longer side that masks are warped at."""
_BLUR = 3
"""Masks are a little soft, so that mixing two of them moves the edge instead of doubling it."""
_MARGIN = 0.12
"""Of a person's box: how far a warped mask may reach beyond the moved box."""


class _Seen:
    """A frame that vision saw, with its masks at a small size, soft, made when they are asked for."""

    def __init__(self, frame: Frame, result: FrameResult) -> None:
        self.result = result
        self.luma = _small(frame)
        self._labels: np.ndarray | None = None
        self._masks: dict[tuple[int, int], np.ndarray] = {}

    def track(self, track_id: int) -> Track | None:
        """The track of that id, if it is seen on this frame."""
        return next((t for t in self.result.tracks if t.id == track_id and t.state == "tracked"), None)

    def mask(self, bits: int, value: int) -> np.ndarray:
        """(h, w) uint8 0..255: where the label map, by its `bits`, is `value`."""
        if (bits, value) not in self._masks:
            if self._labels is None:
                size = _mask_size(self.result)
                labels = self.result.label_map
                blank = np.zeros(size[::-1], np.uint8)
                self._labels = blank if labels is None else cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
            hit = np.equal(self._labels & np.uint8(bits), np.uint8(value)).view(np.uint8)
            self._masks[bits, value] = cv2.blur(np.negative(hit), (_BLUR, _BLUR))
        return self._masks[bits, value]

    @property
    def has_strangers(self) -> bool:
        """People are marked who are no track."""
        return bool(self.mask(LABEL_TRACK | LABEL_PERSON, LABEL_PERSON).any())


class _Side:
    """A seen frame as it is carried to one frame between."""

    def __init__(self, seen: _Seen, shift: np.ndarray, weight: float) -> None:
        """`shift`: (h, w, 2) float32, where each pixel of the frame between lies in the seen one."""
        self.seen, self.weight = seen, weight
        self._shift = shift
        width, height = _mask_size(seen.result)
        at = cv2.resize(shift, (width, height), interpolation=cv2.INTER_LINEAR)
        self._at = cv2.scaleAdd(at, width / shift.shape[1], _grid((height, width)))

    def warped(self, bits: int, value: int, rows: slice, columns: slice) -> np.ndarray:
        """(h, w) uint8 0..255: a mask of the seen frame, moved, inside a rectangle of the small size."""
        mask = self.seen.mask(bits, value)
        moved: np.ndarray = cv2.remap(mask, self._at[rows, columns], None, cv2.INTER_LINEAR)
        return moved

    def moved(self, box: Box | None) -> Box | None:
        """`box` of the seen frame where it is now: against the median shift of the pixels inside."""
        if box is None:
            return None
        scale = self._shift.shape[1] / self.seen.result.width
        x0, y0, x1, y1 = (round(side * scale) for side in box)
        inside = self._shift[max(0, y0) : max(1, y1), max(0, x0) : max(1, x1)].reshape(-1, 2)
        if not inside.size:
            return box
        dx, dy = (-float(value) / scale for value in np.median(inside, axis=0))
        return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy


class Between:
    """Of one file. Holds one seen frame."""

    def __init__(self) -> None:
        self._flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._last: _Seen | None = None

    @property
    def empty(self) -> bool:
        """No frame was seen yet, or not since a cut."""
        return self._last is None

    def fill(self, between: Sequence[Frame], frame: Frame, result: FrameResult) -> Iterator[tuple[Frame, FrameResult]]:
        """Results of the frames `between` the last seen one and `frame`, which vision says `result` of."""
        after = _Seen(frame, result)
        before, self._last = self._last, after
        if before is not None and between:
            yield from self._filled(before, between, after)

    def end(self, after: Sequence[Frame]) -> Iterator[tuple[Frame, FrameResult]]:
        """Results of the last frames before a cut, from the one side; then nothing is known."""
        before, self._last = self._last, None
        if before is not None and after:
            yield from self._filled(before, after, None)

    def _filled(
        self, before: _Seen, between: Sequence[Frame], after: _Seen | None
    ) -> Iterator[tuple[Frame, FrameResult]]:
        lumas = [_small(frame) for frame in between]
        forward = self._chained([before.luma, *lumas])
        backward = None if after is None else self._chained([after.luma, *reversed(lumas)])[::-1]
        for number, frame in enumerate(between):
            share = 0.0 if after is None else (number + 1) / (len(between) + 1)
            sides = [_Side(before, forward[number], 1 - share)]
            if after is not None and backward is not None:
                sides.append(_Side(after, backward[number], share))
            yield frame, _mixed(frame, sides)

    def _chained(self, lumas: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Per picture after the first: (h, w, 2) float32, where each of its pixels lay in the first one, as a shift."""
        grid = _grid(lumas[0].shape)
        chained: list[np.ndarray] = []
        for past, now in itertools.pairwise(lumas):
            step: np.ndarray = self._flow.calc(now, past, None)
            if chained:
                at = grid + step
                step = step + cv2.remap(chained[-1], at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            chained.append(step)
        return chained


def _small(frame: Frame) -> np.ndarray:
    """Luma for reading motion from."""
    luma = frame.i420[: frame.height]
    scale = min(1.0, _FLOW_SIDE / max(luma.shape))
    size = max(16, round(frame.width * scale)), max(16, round(frame.height * scale))
    small: np.ndarray = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    return small


@lru_cache(maxsize=4)
def _grid(shape: tuple[int, ...]) -> np.ndarray:
    """(h, w, 2) float32: x and y of each pixel. Not to be written to."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    return np.dstack((columns, rows)).astype(np.float32)


def _mask_size(result: FrameResult) -> tuple[int, int]:
    """Width and height that masks are warped at."""
    scale = min(1.0, _MASK_SIDE / max(result.width, result.height))
    return max(2, round(result.width * scale)), max(2, round(result.height * scale))


def _mixed(frame: Frame, sides: Sequence[_Side]) -> FrameResult:
    """The result of `frame` from one or two seen ones."""
    painter = _Painter(frame, _mask_size(sides[0].seen.result))
    tracks: list[Track] = []
    ids = dict.fromkeys(t.id for side in sides for t in side.seen.result.tracks if t.state == "tracked")
    # Labels anew: the seen frames may have given one to two tracks, one after the other.
    for label, track_id in enumerate(ids, 1):
        found = [(side, track) for side in sides if (track := side.seen.track(track_id)) is not None]
        tracks.append(_carried(frame, found, len(found) == len(sides), label, painter))
    first = sides[0].seen.result
    lost = [track for track in first.tracks if track.state == "lost" and track.id not in ids]
    tracks += [_without_mask(frame, track, sides[0], label) for label, track in enumerate(lost, len(ids) + 1)]
    tracks = [_settled(track, painter) for track in tracks if track.label <= MAX_TRACKS]
    if any(side.seen.has_strangers for side in sides):
        painter.paint_people(sides)
    return FrameResult(
        frame.index, frame.pts_seconds, frame.width, frame.height, first.engine, False, tuple(tracks), painter.labels
    )


def _carried(frame: Frame, found: Sequence[tuple[_Side, Track]], on_all: bool, label: int, painter: _Painter) -> Track:
    """One track on `frame`; `on_all`: it is on every side."""
    newest = max(found, key=lambda pair: pair[0].weight)[1]
    total = sum(side.weight for side, _ in found)
    box = _mean([(side.moved(track.box_xyxy), side.weight) for side, track in found], frame)
    # Somebody who is on one side only is shown on that side's half, and told of as lost on the other.
    if not on_all and total < 0.5:
        return replace(newest, state="lost", label=label, box_xyxy=box, face_xyxy=None)
    masks = [(side, track.label, side.weight / total) for side, track in found]
    painted = painter.paint(masks, box, label)
    parts = [(side, track.label, side.weight) for side, track in found if track.object_prompt is not None]
    if newest.object_prompt is not None and parts:
        share = sum(weight for *_, weight in parts)
        painter.paint_part([(side, value, weight / share) for side, value, weight in parts], box, label)
    faces = [(side.moved(track.face_xyxy), side.weight) for side, track in found]
    return replace(
        newest,
        label=label,
        box_xyxy=painted or box,
        face_xyxy=None if all(face is None for face, _ in faces) else _mean(faces, frame),
    )


def _settled(track: Track, painter: _Painter) -> Track:
    """Without pixels of its own, be they moved out of the picture or under another's, a track is not tracked."""
    if track.state == "lost" or (painter.labels is not None and marked(painter.labels, (track.label,))):
        return track
    return replace(track, state="lost", object_prompt=None)


def _without_mask(frame: Frame, track: Track, side: _Side, label: int) -> Track:
    """Somebody who is on no side with a mask, but maybe with a face."""
    box, face = (side.moved(box) for box in (track.box_xyxy, track.face_xyxy))
    return replace(
        track,
        label=label,
        box_xyxy=_mean([(box, 1.0)], frame),
        face_xyxy=None if face is None else _mean([(face, 1.0)], frame),
    )


class _Painter:
    """Puts warped masks together into the label map of one frame."""

    def __init__(self, frame: Frame, size: tuple[int, int]) -> None:
        """`size`: width and height that masks are warped at."""
        self._shape = (frame.height, frame.width)
        self._size = size
        self.labels: np.ndarray | None = None
        self._best: np.ndarray | None = None

    def paint(self, masks: Sequence[tuple[_Side, int, float]], around: Box, label: int) -> Box | None:
        """Give a mix of masks to a track, near the box `around`; its box, None where nothing is left."""
        rows, columns, full = self._mix(masks, LABEL_TRACK, 0, around)
        if self.labels is None or self._best is None:
            self.labels = np.zeros(self._shape, np.uint8)
            self._best = np.full(self._shape, 127, np.uint8)
        best = self._best[rows, columns]
        wins = cv2.compare(full, best, cv2.CMP_GT)
        cv2.copyTo(full, wins, best)
        labels = self.labels[rows, columns]
        labels &= ~wins
        labels |= wins & np.uint8(label | LABEL_PERSON)
        x, y, width, height = cv2.boundingRect(wins)
        if not width:
            return None
        left, top = columns.start + x, rows.start + y
        return float(left), float(top), float(left + width), float(top + height)

    def paint_part(self, masks: Sequence[tuple[_Side, int, float]], around: Box, label: int) -> None:
        """Mark pixels of the track as its object."""
        if self.labels is not None:
            rows, columns, full = self._mix(masks, LABEL_TRACK | LABEL_OBJECT, LABEL_OBJECT, around)
            labels = self.labels[rows, columns]
            labels[(full > 127) & ((labels & LABEL_TRACK) == label)] |= LABEL_OBJECT

    def paint_people(self, sides: Sequence[_Side]) -> None:
        """Mark people who are no track, on any side: too many rather than too few are concealed."""
        whole = slice(0, self._size[1]), slice(0, self._size[0])
        masks = [side.warped(LABEL_TRACK | LABEL_PERSON, LABEL_PERSON, *whole) for side in sides]
        size = self._shape[1], self._shape[0]
        full = cv2.resize(np.maximum.reduce(masks), size, interpolation=cv2.INTER_LINEAR) > 127
        if self.labels is None:
            self.labels = np.zeros(self._shape, np.uint8)
        self.labels[full] |= LABEL_PERSON

    def _mix(
        self, masks: Sequence[tuple[_Side, int, float]], bits: int, also: int, around: Box
    ) -> tuple[slice, slice, np.ndarray]:
        """Rows and columns of the frame, and the mix inside them, (h, w) uint8 0..255."""
        (width, height), (full_height, full_width) = self._size, self._shape
        scale_x, scale_y = width / full_width, height / full_height
        margin = _MARGIN * max(around[2] - around[0], around[3] - around[1])
        x0, x1 = _span(around[0] - margin, around[2] + margin, scale_x, width)
        y0, y1 = _span(around[1] - margin, around[3] + margin, scale_y, height)
        mixed: np.ndarray | None = None
        for side, value, share in masks:
            moved = side.warped(bits, value | also, slice(y0, y1), slice(x0, x1))
            mixed = cv2.multiply(moved, share) if mixed is None else cv2.scaleAdd(moved, share, mixed)
        rows = slice(round(y0 / scale_y), round(y1 / scale_y))
        columns = slice(round(x0 / scale_x), round(x1 / scale_x))
        size = columns.stop - columns.start, rows.stop - rows.start
        assert mixed is not None
        full: np.ndarray = cv2.resize(mixed, size, interpolation=cv2.INTER_LINEAR)
        return rows, columns, full


def _span(low: float, high: float, scale: float, length: int) -> tuple[int, int]:
    """Whole pixels of the small size from `low` to `high` of the frame, at least one."""
    start = min(max(0, int(low * scale)), length - 1)
    return start, max(start + 1, min(length, int(high * scale) + 2))


def _mean(boxes: Sequence[tuple[Box | None, float]], frame: Frame) -> Box:
    given = [(box, weight) for box, weight in boxes if box is not None]
    total = sum(weight for _, weight in given) or 1.0
    x0, y0, x1, y1 = (sum(box[side] * weight for box, weight in given) / total for side in range(4))
    return clip_box((x0, y0, x1, y1), frame.width, frame.height)
