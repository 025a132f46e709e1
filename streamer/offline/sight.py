"""Models and known faces, loaded once for all files of a run, and vision over the frames of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from streamer.errors import ConfigError, MemberUnknown, PhotoRefused
from streamer.offline.between import Between
from streamer.offline.cast import Cast
from streamer.service.settings import Settings
from streamer.tracks import FrameResult
from streamer.vision import enrolment, photos
from streamer.vision.cuts import CutDetector
from streamer.vision.engines.base import LookAhead, MaskEngine, Picture
from streamer.vision.gallery import Gallery
from streamer.vision.known import Known

if TYPE_CHECKING:
    from streamer.frames import Frame
    from streamer.vision.loading import Models
    from streamer.vision.processor import FrameProcessor

Say = Callable[[str], None]
BATCH = 4
"""Pictures that go through an image encoder together: most of what a batch gains, at little memory."""
_WAITING_BYTES = 200_000_000
"""Of frames that wait for a batch, from which it is as large as it is: flat memory at any size and `every`."""
_LOOK_FRAMES = 15
"""Frames between two looks for faces, about, when masks are sought on every n-th frame only."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the run sees with. Not thread-safe: one thread at a time."""

    settings: Settings
    models: Models
    known: Known

    @classmethod
    def load(cls, settings: Settings, say: Say = lambda line: None, known: Known | None = None) -> Sight:
        """Load the engine's models, and the enrolled faces of the data folder (or take `known`).

        Raises:
            ModelMissing, VisionUnavailable: the models cannot be had.
            GalleryUnavailable: the gallery cannot be read.
            ConfigError: the engine names nobody.
        """
        from streamer.vision.loading import build_models

        if settings.vision.engine in ("none", "synthetic"):
            raise ConfigError(f"engine {settings.vision.engine} names nobody; use --engine lite")
        models = build_models(settings.vision, settings.data_folder, say)
        return cls(settings, models, stored_faces(settings, models) if known is None else known)

    def processor(
        self,
        cast: Cast,
        *,
        still: bool = False,
        every: int = 1,
        first_track_id: int = 1,
        engine: MaskEngine | None = None,
    ) -> FrameProcessor:
        """A processor for one file, or one photo; on a fresh engine, or on `engine`.

        Raises:
            PromptUnsupported: the engine cannot answer the object prompt.
        """
        from streamer.vision.processor import FrameProcessor

        vision = self.settings.vision
        if every > 1:
            vision = vision.model_copy(update={"identity_every": max(1, _LOOK_FRAMES // every)})
        processor = FrameProcessor(
            engine or self.models.engine(), self.models.faces, vision, still=still, first_track_id=first_track_id
        )
        processor.set_known(self.known)
        processor.set_target(cast.sought())
        return processor


def check_members(settings: Settings, names: Sequence[str]) -> tuple[str, ...]:
    """The members of those names as the gallery spells them; needs no model.

    Raises:
        MemberUnknown: nobody of that name is enrolled, or without a photo.
    """
    with Gallery(settings.data_folder / "gallery") as gallery:
        found = []
        for name in names:
            try:
                member = gallery.member(name)
            except MemberUnknown as exc:
                others = ", ".join(repr(other.name) for other in gallery.members()[:8])
                there = f"enrolled are {others}" if others else "nobody is enrolled yet"
                raise MemberUnknown(
                    f"there is no member {name!r}: {there}; add one with: streamer members add NAME PHOTO..."
                ) from exc
            if not member.photos:
                raise MemberUnknown(
                    f"member {member.name!r} has no photo to be known by; streamer members add {member.name} PHOTO..."
                )
            found.append(member.name)
        return tuple(dict.fromkeys(found))


def stored_faces(settings: Settings, models: Models) -> Known:
    """Everybody in the gallery of the data folder; photos that this face model never saw are read now."""
    assert models.faces is not None
    model_id = models.faces.model_id
    with Gallery(settings.data_folder / "gallery") as gallery:
        for photo in gallery.photos_without(model_id):
            face = _read_again(models, gallery.photo_bytes(photo.id), photo.file, photo.face_xyxy)
            if face is not None:
                gallery.add_embedding(photo.id, model_id, face)
        return gallery.known(model_id)


def _read_again(models: Models, data: bytes, file: str, face_xyxy: tuple[float, float, float, float]):  # type: ignore[no-untyped-def]
    from streamer.vision.photo_reading import read_encoded

    assert models.faces is not None
    try:
        decoded = photos.decode(data, file)
        reading = read_encoded(models.faces, photos.encode_bmp(decoded.bgr))
    except PhotoRefused:
        return None
    return enrolment.same_face(reading, decoded.width, face_xyxy)


def joined(first: Known, second: Known) -> Known:
    """Two sets of known faces of one model; a name in both has the faces of both."""
    names = tuple(dict.fromkeys((*first.names, *second.names)))
    place = {name: number for number, name in enumerate(names)}

    def owners(known: Known, rows: np.ndarray) -> np.ndarray:
        return np.array([place[known.names[row]] for row in rows], np.int64)

    def rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([part for part in (a, b) if part.size]) if a.size or b.size else a

    return Known(
        second.model_id or first.model_id,
        names,
        np.concatenate([owners(first, first.owners), owners(second, second.owners)]),
        rows(first.embeddings, second.embeddings),
        np.concatenate([owners(first, first.rejected_owners), owners(second, second.rejected_owners)]),
        rows(first.rejected, second.rejected),
    )


@dataclass(frozen=True, slots=True)
class _Planned:
    """A frame, and what is to be done with it."""

    frame: Frame
    way: Literal["look", "between", "blank"]
    """`between`: its masks come from the frames looked at around it; `blank`: two shots mix, nobody is told apart."""
    cut: bool
    """What was known of the frames before is void."""


class Watcher:
    """Vision over the frames of one file, in order: all of them, or every n-th with the ones between filled in.

    An engine that can look ahead gets the pictures that are looked at in batches: what is done with a frame is decided
    before vision sees it, so cuts change nothing about that. Bound: the frames of one batch wait, as many as fit.
    """

    def __init__(self, sight: Sight, cast: Cast, every: int, first_track_id: int = 1) -> None:
        engine = sight.models.engine()
        self._processor = sight.processor(cast, every=every, first_track_id=first_track_id, engine=engine)
        self._every = every
        self._ahead = engine if isinstance(engine, LookAhead) else None
        self._cuts = CutDetector()
        self._since = 0
        self._known = False
        """A frame of this shot is looked at: frames between can be filled in."""
        self._between = Between()
        self._planned: list[_Planned] = []

    def step(self, frame: Frame) -> Iterator[tuple[Frame, FrameResult]]:
        """Frames whose result is known now, oldest first."""
        self._planned.append(self._plan(frame))
        looks = sum(planned.way == "look" for planned in self._planned)
        full = frame.i420.nbytes * len(self._planned) >= _WAITING_BYTES
        if self._ahead is None or looks >= BATCH or full:
            yield from self._see()

    def finish(self) -> Iterator[tuple[Frame, FrameResult]]:
        """What still waits."""
        if self._planned and self._planned[-1].way == "between":
            self._planned[-1] = replace(self._planned[-1], way="look")
        yield from self._see()

    def warm_up(self, frame: Frame) -> None:
        """See a frame whose result nobody wants."""
        self._processor.step(frame)

    def close(self) -> None:
        """Free the engine's state."""
        self._processor.close()

    def _plan(self, frame: Frame) -> _Planned:
        if self._every == 1:
            return _Planned(frame, "look", False)
        cut = self._cuts.step(frame.i420)
        self._since += 1
        self._known = self._known and not cut
        if self._known and self._since < self._every:
            return _Planned(frame, "between", False)
        if self._cuts.dissolving:
            return _Planned(frame, "blank", cut)
        self._known, self._since = True, 0
        return _Planned(frame, "look", cut)

    def _see(self) -> Iterator[tuple[Frame, FrameResult]]:
        """All that is planned, but the frames at the end whose next look is still to come."""
        count = len(self._planned)
        while count and self._planned[count - 1].way == "between":
            count -= 1
        now, self._planned = self._planned[:count], self._planned[count:]
        self._prepare([planned.frame for planned in now if planned.way == "look"])
        waiting: list[Frame] = []
        for planned in now:
            if planned.cut:
                yield from self._between.end(waiting)
                waiting = []
                # It sees too few frames to know by itself.
                self._processor.reset()
            if planned.way == "between":
                waiting.append(planned.frame)
            elif planned.way == "blank":
                yield planned.frame, self._blank(planned.frame)
            else:
                yield from self._look(planned.frame, waiting)
                waiting = []

    def _prepare(self, frames: Sequence[Frame]) -> None:
        if self._ahead is not None and len(frames) > 1:
            self._ahead.prepare(
                [Picture(cv2.cvtColor(f.i420, cv2.COLOR_YUV2BGR_I420), f.index, f.pts_seconds) for f in frames]
            )

    def _look(self, frame: Frame, between: Sequence[Frame]) -> Iterator[tuple[Frame, FrameResult]]:
        result = self._processor.step(frame)
        if self._every > 1:
            yield from self._between.fill(between, frame, result)
        yield frame, result

    def _blank(self, frame: Frame) -> FrameResult:
        return FrameResult.nothing(frame, self._processor.engine_name, between_shots=True)
