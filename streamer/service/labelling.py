"""Telling the service who somebody in a running stream is, or is not, by the faces seen of a track."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

from streamer.errors import MemberUnknown, StreamConflict
from streamer.service import importing
from streamer.service.enrolment import Enrolled, GivenPhoto, MemberServices, Refused, each
from streamer.vision.enrolment import MIN_SHARPNESS
from streamer.vision.gallery import Gallery
from streamer.vision.member import NewMember, NewRejection, RejectedFace
from streamer.vision.resemblance import likeness_of
from streamer.vision.story import SeenFace, TrackStory

NEGATIVES = 3
"""Faces of a track that are kept as not a member's: the best ones, which stand for the rest."""


class LabelServices(MemberServices, Protocol):
    """What labelling needs of a running service."""

    async def track_story(self, stream_id: str, track_id: int) -> TrackStory:
        """What was seen of a track."""


@dataclass(slots=True)
class Labelled:
    """What was learnt from one answer of a person."""

    member: str
    enrolled: Enrolled = field(default_factory=Enrolled)
    """Photos kept and refused ("this is X"), rejected faces stored ("not X")."""
    withdrawn: int = 0
    """Photos, or rejected faces, that said the contrary and are deleted."""


async def this_is(services: LabelServices, stream_id: str, track_id: int, new: NewMember, create: bool) -> Labelled:
    """The track is that member: its best faces become photos of the member, each checked as any photo is.

    Faces that were rejected for the member and show this very person are taken back: the newest word counts.

    Args:
        create: Make the member if it is not there.

    Raises:
        MemberUnknown: not there, and not to be made.
        StreamUnknown, TrackUnknown: no such stream or track.
        StreamConflict: no face of the track was seen yet.
        VisionUnavailable: faces cannot be read now.
    """
    story = await _story(services, stream_id, track_id)
    if not create:
        await asyncio.to_thread(services.gallery.member, new.name)
    usual = likeness_of(story.model_id)
    best = story.faces[0].face.embedding
    given, strange = [], []
    for seen in story.faces:
        file = f"{_clock(seen.pts_seconds)}.jpg"
        if float(seen.face.embedding @ best) < usual.stranger:
            strange.append(Refused(file, f"{file}: does not look like the best face of the track"))
        else:
            given.append(GivenPhoto(file, seen.jpeg, seen.face.box_xyxy))
    source = _source(stream_id, track_id)
    enrolled = await importing.import_member(services, new, each(given), source=source)
    enrolled.refused += strange
    if not enrolled.kept:
        return Labelled(new.name, enrolled)
    name = (await asyncio.to_thread(services.gallery.member, new.name)).name
    withdrawn = await asyncio.to_thread(_take_back, services.gallery, name, story, usual.stranger)
    if withdrawn:
        await services.gallery_changed()
    return Labelled(name, enrolled, withdrawn)


async def is_not(services: LabelServices, stream_id: str, track_id: int, name: str) -> Labelled:
    """The track is not that member: its best faces weigh against the name from now on, in every stream.

    Photos that "this is X" took from this very track are deleted: the newest word counts.

    Raises:
        MemberUnknown, StreamUnknown, TrackUnknown, StreamConflict, VisionUnavailable: as `this_is`.
    """
    story = await _story(services, stream_id, track_id)
    name = (await asyncio.to_thread(services.gallery.member, name)).name
    source = _source(stream_id, track_id)
    try:
        rejected = await asyncio.to_thread(_reject, services.gallery, name, story, source)
        withdrawn = await asyncio.to_thread(_remove_photos, services.gallery, name, source)
    finally:
        await services.gallery_changed()
    return Labelled(name, Enrolled(rejected=rejected), withdrawn)


async def _story(services: LabelServices, stream_id: str, track_id: int) -> TrackStory:
    story = await services.track_story(stream_id, track_id)
    if not story.faces:
        raise StreamConflict(
            f"no face of track {track_id} in stream {stream_id} has been seen yet; wait until the face is shown"
        )
    return story


def _source(stream_id: str, track_id: int) -> str:
    return f"stream {stream_id}, track {track_id}"


def _clock(pts_seconds: float) -> str:
    minutes, seconds = divmod(max(pts_seconds, 0.0), 60.0)
    return f"{int(minutes)}m{seconds:05.2f}s"


def _take_back(gallery: Gallery, name: str, story: TrackStory, alike: float) -> int:
    """Delete the member's rejected faces that are this person's."""
    faces = np.stack([seen.face.embedding for seen in story.faces])
    against = gallery.rejected_embeddings(name, story.model_id)
    contrary = [rejection for rejection, vector in against.items() if float((faces @ vector).max()) >= alike]
    for rejection in contrary:
        with contextlib.suppress(MemberUnknown):  # somebody else was faster
            gallery.remove_rejected(name, rejection)
    return len(contrary)


def _remove_photos(gallery: Gallery, name: str, source: str) -> int:
    photos = [photo for photo in gallery.member(name).photos if photo.source == source]
    for photo in photos:
        with contextlib.suppress(MemberUnknown):  # somebody else was faster
            gallery.remove_photo(name, photo.id)
    return len(photos)


def _reject(gallery: Gallery, name: str, story: TrackStory, source: str) -> list[RejectedFace]:
    stored = []
    for seen in _telling(story.faces):
        with Image.open(io.BytesIO(seen.jpeg)) as crop:
            width, height = crop.size
        stored.append(
            gallery.add_rejected(name, NewRejection(seen.jpeg, width, height, source, story.model_id, seen.face))
        )
    return stored


def _telling(faces: Sequence[SeenFace]) -> Sequence[SeenFace]:
    """The best faces; a blurred one only where there is no other: it resembles everybody's blurred face."""
    sharp = [seen for seen in faces if seen.face.sharpness >= MIN_SHARPNESS]
    return sharp[:NEGATIVES] or faces[:1]
