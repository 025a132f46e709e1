"""What is kept of each track, so that "why this name?" has an answer and a face can be given to a member."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np

from streamer.tracks import Box
from streamer.vision.known import PhotoFace
from streamer.vision.quality import FaceQuality
from streamer.vision.story import Decision, Look, SeenFace, TrackStory

TRACKS = 128
"""Those seen, or asked about, last are kept: a minute of a film that is cut every two seconds. 10 MB at most."""
FACES = 5
LOOKS = 120
DECISIONS = 30
MEMBERS_A_LOOK = 8
"""The nearest ones: a gallery of a thousand does not make a look large."""
ALIKE = 0.9
"""Cosine of two faces from which they show the same moment: the better one stands for both."""
BETTER = 1.15
"""A face takes another's place when its weight is larger by this: a hair's breadth is not worth encoding a crop."""
CROP_SIDE = 320
"""Pixels at most."""
HAIR, SHOULDERS, SIDES = 0.7, 0.7, 0.7
"""Heights of the face around it in its crop: above, below, left and right."""
JPEG_QUALITY = 90


class Detected(Protocol):
    """A face found on a picture."""

    @property
    def box_xyxy(self) -> Box: ...

    @property
    def score(self) -> float: ...


@dataclass(slots=True)
class _Kept:
    seen: SeenFace
    weight: float


@dataclass(slots=True)
class _Record:
    """Of one track."""

    name: str | None = None
    faces: list[_Kept] = field(default_factory=list)
    looks: deque[Look] = field(default_factory=lambda: deque(maxlen=LOOKS))
    decisions: deque[Decision] = field(default_factory=lambda: deque(maxlen=DECISIONS))


class Journal:
    """Of one stream; see `TrackStory` for the bounds. Costs nothing on frames without a look. Not thread-safe."""

    def __init__(self, model_id: str) -> None:
        """`model_id`: of the embeddings that it will be given."""
        self._model_id = model_id
        self._records: OrderedDict[int, _Record] = OrderedDict()

    def looked(
        self,
        track: int,
        bgr: np.ndarray,
        face: Detected,
        embedding: np.ndarray,
        quality: FaceQuality,
        similarity: dict[str, float],
        pts_seconds: float,
    ) -> None:
        """`face` of `track` on the (H, W, 3) uint8 picture was compared with the gallery."""
        record = self._record(track)
        nearest = sorted(similarity, key=lambda name: -similarity[name])[:MEMBERS_A_LOOK]
        if record.name in similarity and record.name is not None and record.name not in nearest:
            nearest[-1] = record.name
        weight = quality.weight
        record.looks.append(Look(pts_seconds, weight, {name: similarity[name] for name in nearest}))
        place = _place(record.faces, embedding, weight)
        if place is None:
            return
        jpeg, box = _crop(bgr, face.box_xyxy)
        cut = PhotoFace(box, face.score, embedding, quality.sharpness, quality.yaw)
        record.faces[place : place + 1] = [_Kept(SeenFace(jpeg, cut, pts_seconds), weight)]
        record.faces.sort(key=lambda kept: -kept.weight)

    def turned(self, track: int) -> None:
        """The faces seen of `track` so far were somebody else's."""
        if track in self._records:
            self._records[track].faces.clear()

    def decided(self, track: int, name: str | None, reason: str, pts_seconds: float) -> None:
        """Something else is said about `track` from now on."""
        record = self._record(track)
        record.name = name
        record.decisions.append(Decision(pts_seconds, name, reason))

    def forget_members(self, names: frozenset[str]) -> None:
        """These are members no more: nothing of them stays, neither comparisons nor the faces of tracks so named."""
        if not names:
            return
        said = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in sorted(names, key=len, reverse=True)))
        for record in self._records.values():
            if names & {record.name, *(decision.name for decision in record.decisions)}:
                record.faces.clear()
                record.decisions.clear()
                record.name = None
            looks = [
                Look(look.pts_seconds, look.weight, {n: s for n, s in look.similarity.items() if n not in names})
                for look in record.looks
            ]
            record.looks = deque(looks, maxlen=LOOKS)
            decisions = [replace(made, reason=said.sub("somebody removed", made.reason)) for made in record.decisions]
            record.decisions = deque(decisions, maxlen=DECISIONS)

    def story(self, track: int) -> TrackStory | None:
        """All that is kept about `track`, which stays for that; None: no face was seen of it, or too long ago."""
        record = self._records.get(track)
        if record is None:
            return None
        self._records.move_to_end(track)
        return TrackStory(
            track,
            self._model_id,
            record.name,
            tuple(kept.seen for kept in record.faces),
            tuple(record.looks),
            tuple(record.decisions),
        )

    def _record(self, track: int) -> _Record:
        record = self._records.get(track)
        if record is None:
            record = self._records[track] = _Record()
            if len(self._records) > TRACKS:
                self._records.popitem(last=False)
        self._records.move_to_end(track)
        return record


def _place(faces: list[_Kept], embedding: np.ndarray, weight: float) -> int | None:
    """Where a face belongs among those kept: in whose place, or at the end; None: it is not worth keeping."""
    alike = [float(kept.seen.face.embedding @ embedding) for kept in faces]
    if alike and max(alike) >= ALIKE:
        twin = int(np.argmax(alike))
        return twin if weight > BETTER * faces[twin].weight else None
    if len(faces) < FACES:
        return len(faces)
    worst = min(range(len(faces)), key=lambda position: faces[position].weight)
    return worst if weight > BETTER * faces[worst].weight else None


def _crop(bgr: np.ndarray, face: Box) -> tuple[bytes, Box]:
    """A JPEG file of the face with what is around it, and the face's box in it."""
    height, width = bgr.shape[:2]
    x0, y0, x1, y1 = face
    size = max(y1 - y0, 1.0)
    left, right = _span(x0 - SIDES * size, x1 + SIDES * size, width)
    top, bottom = _span(y0 - HAIR * size, y1 + SHOULDERS * size, height)
    crop = bgr[top:bottom, left:right]
    scale = min(1.0, CROP_SIDE / max(crop.shape[:2]))
    if scale < 1.0:
        shape = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
        crop = cv2.resize(crop, shape, interpolation=cv2.INTER_AREA)
    encoded: tuple[bool, np.ndarray] = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    box = ((x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale)
    return encoded[1].tobytes(), box


def _span(first: float, last: float, limit: int) -> tuple[int, int]:
    """Whole pixels of the picture from `first` to `last`, at least one."""
    start = min(max(int(first), 0), limit - 1)
    return start, max(min(int(last) + 1, limit), start + 1)
