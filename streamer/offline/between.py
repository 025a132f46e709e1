"""Masks of the frames between two that vision saw: carried along the optical flow, from both sides.

Each mask is warped once, at its own resolution, along a displacement that is chained from frame to frame at a small
one (dense inverse search: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", 2016). A frame between is a
mix of what comes from the frame before it and from the one after it, by distance in time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from streamer.frames import Frame
from streamer.tracks import LABEL_OBJECT, LABEL_PERSON, LABEL_TRACK, Box, FrameResult, Track
from streamer.vision.tracking import clip_box

_FLOW_SIDE = 256
"""Pixels of the longer side of the pictures that motion is read from."""
_MASK_SIDE = 960
"""Pixels of the longer side that masks are warped at."""
_BLUR = 3


@dataclass(frozen=True, slots=True)
class _Seen:
    """A frame that vision saw."""

    frame: Frame
    result: FrameResult
    luma: np.ndarray


class Between:
    """Of one file. Holds one seen frame."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._last: _Seen | None = None

    @property
    def empty(self) -> bool:
        """No frame was seen yet, or not since a cut."""
        return self._last is None

    def fill(self, between: Sequence[Frame], frame: Frame, result: FrameResult) -> Iterator[tuple[Frame, FrameResult]]:
        """Results of the frames `between` the last seen one and `frame`, which vision says `result` of."""
        after = _Seen(frame, result, _small(frame))
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
            sides = [(before.result, forward[number], 1 - share)]
            if after is not None and backward is not None:
                sides.append((after.result, backward[number], share))
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


def _grid(shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    return np.dstack((columns, rows)).astype(np.float32)


def _mixed(frame: Frame, sides: Sequence[tuple[FrameResult, np.ndarray, float]]) -> FrameResult:
    """The result of `frame` from one or two seen ones, each with its shift and its weight."""
    painter = _Painter(frame)
    tracks: list[Track] = []
    ids = dict.fromkeys(track.id for result, _, _ in sides for track in result.tracks if track.state == "tracked")
    for track_id in ids:
        found = [
            (result, track, shift, weight)
            for result, shift, weight in sides
            for track in result.tracks
            if track.id == track_id and track.state == "tracked"
        ]
        newest = max(found, key=lambda side: side[3])[1]
        label = found[0][1].label
        total = sum(weight for *_, weight in found)
        mask = sum(_warped(result, track, shift, 0) * (weight / total) for result, track, shift, weight in found)
        boxes = [(_moved(track.box_xyxy, shift, frame), weight) for _, track, shift, weight in found]
        # Somebody who is on one side only is shown on that side's half, and told of as lost on the other.
        if len(found) < len(sides) and total < 0.5:
            tracks.append(replace(newest, state="lost", box_xyxy=_mean(boxes, frame), face_xyxy=None))
            continue
        rect = painter.paint(np.asarray(mask), label)
        if newest.object_prompt is not None:
            with_part = [side for side in found if side[1].object_prompt is not None]
            share = sum(weight for *_, weight in with_part)
            part = sum(
                _warped(result, track, shift, 1) * (weight / share) for result, track, shift, weight in with_part
            )
            painter.paint_part(np.asarray(part), label)
        moved = [(_moved(track.face_xyxy, shift, frame), weight) for _, track, shift, weight in found]
        tracks.append(
            replace(
                newest,
                label=label,
                box_xyxy=rect or _mean(boxes, frame),
                face_xyxy=None if all(box is None for box, _ in moved) else _mean(moved, frame),
            )
        )
    first = sides[0][0]
    tracks += [track for track in first.tracks if track.state == "lost" and track.id not in ids]
    people = [(result, shift, weight) for result, shift, weight in sides if result.label_map is not None]
    if any(_has_strangers(result) for result, _, _ in people):
        for result, shift, _ in people:
            painter.paint_people(_strangers(result, shift))
    return FrameResult(
        frame.index,
        frame.pts_seconds,
        frame.width,
        frame.height,
        first.engine,
        False,
        tuple(tracks),
        painter.labels,
        {},
    )


class _Painter:
    """Puts warped masks together into the label map of one frame."""

    def __init__(self, frame: Frame) -> None:
        self._size = frame.width, frame.height
        self.labels: np.ndarray | None = None
        self._best: np.ndarray | None = None

    def paint(self, mask: np.ndarray, label: int) -> Box | None:
        """Give (h, w) 0..255 float32 to a track; its box, None where nothing is left."""
        full = cv2.resize(mask, self._size, interpolation=cv2.INTER_LINEAR)
        if self.labels is None or self._best is None:
            self.labels = np.zeros(full.shape, np.uint8)
            self._best = np.full(full.shape, 127.0, np.float32)
        wins = full > self._best
        self._best[wins] = full[wins]
        self.labels[wins] = label | LABEL_PERSON
        columns, rows = np.flatnonzero(wins.any(axis=0)), np.flatnonzero(wins.any(axis=1))
        if not rows.size:
            return None
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)

    def paint_part(self, mask: np.ndarray, label: int) -> None:
        """Mark the pixels of the track as its object."""
        if self.labels is not None:
            full = cv2.resize(mask, self._size, interpolation=cv2.INTER_LINEAR)
            self.labels[(full > 127) & ((self.labels & LABEL_TRACK) == label)] |= LABEL_OBJECT

    def paint_people(self, mask: np.ndarray) -> None:
        """Mark people who are no track."""
        full = cv2.resize(mask, self._size, interpolation=cv2.INTER_LINEAR) > 127
        if self.labels is None:
            self.labels = np.zeros(full.shape, np.uint8)
        self.labels[full] |= LABEL_PERSON


def _warped(result: FrameResult, track: Track, shift: np.ndarray, part: int) -> np.ndarray:
    """(h, w) float32 0..255: the mask of `track` (or of its object), moved."""
    if result.label_map is None:
        return np.zeros(_mask_shape(result), np.float32)
    if part:
        mask = np.equal(result.label_map & np.uint8(LABEL_TRACK | LABEL_OBJECT), np.uint8(track.label | LABEL_OBJECT))
    else:
        mask = np.equal(result.label_map & np.uint8(LABEL_TRACK), np.uint8(track.label))
    return _warp(mask, result, shift)


def _strangers(result: FrameResult, shift: np.ndarray) -> np.ndarray:
    assert result.label_map is not None
    return _warp(np.equal(result.label_map & np.uint8(LABEL_TRACK | LABEL_PERSON), LABEL_PERSON), result, shift)


def _has_strangers(result: FrameResult) -> bool:
    return result.label_map is not None and bool((result.label_map == LABEL_PERSON).any())


def _warp(mask: np.ndarray, result: FrameResult, shift: np.ndarray) -> np.ndarray:
    height, width = _mask_shape(result)
    solid = np.negative(mask.view(np.uint8))
    small = cv2.resize(solid, (width, height), interpolation=cv2.INTER_AREA)
    # A little soft, so that mixing two masks moves the edge instead of doubling it.
    small = cv2.blur(small, (_BLUR, _BLUR))
    scale = width / shift.shape[1]
    at = cv2.resize(shift, (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(scale)
    at += _grid((height, width))
    moved: np.ndarray = cv2.remap(small, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return moved.astype(np.float32)


def _mask_shape(result: FrameResult) -> tuple[int, int]:
    scale = min(1.0, _MASK_SIDE / max(result.width, result.height))
    return max(2, round(result.height * scale)), max(2, round(result.width * scale))


def _moved(box: Box | None, shift: np.ndarray, frame: Frame) -> Box | None:
    """`box` of the seen frame where it is on `frame`: against the median shift of the pixels inside."""
    if box is None:
        return None
    scale = shift.shape[1] / frame.width
    x0, y0, x1, y1 = (round(side * scale) for side in box)
    inside = shift[max(0, y0) : max(1, y1), max(0, x0) : max(1, x1)].reshape(-1, 2)
    if not inside.size:
        return box
    dx, dy = (-float(value) / scale for value in np.median(inside, axis=0))
    return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy


def _mean(boxes: Sequence[tuple[Box | None, float]], frame: Frame) -> Box:
    given = [(box, weight) for box, weight in boxes if box is not None]
    total = sum(weight for _, weight in given) or 1.0
    x0, y0, x1, y1 = (sum(box[side] * weight for box, weight in given) / total for side in range(4))
    return clip_box((x0, y0, x1, y1), frame.width, frame.height)
