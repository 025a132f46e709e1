"""Enrolment as the service does it: the gallery in threads, the faces by the vision worker, the event loop free."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.errors import MemberExists, MemberUnknown, PhotoRefused
from streamer.vision import enrolment, member_name, photos
from streamer.vision.enrolment import FacePick
from streamer.vision.gallery import Gallery
from streamer.vision.known import PhotoReading
from streamer.vision.member import Member, NewPhoto, Photo

log = logging.getLogger(__name__)


class MemberServices(Protocol):
    """What enrolment needs of a running service."""

    @property
    def gallery(self) -> Gallery:
        """The gallery of the data folder."""

    async def read_photo(self, encoded: bytes) -> PhotoReading:
        """Faces of an encoded picture, in the pixels of that picture."""

    async def gallery_changed(self) -> None:
        """Give vision the gallery as it is now."""


@dataclass(frozen=True, slots=True)
class NewMember:
    """A member to be made."""

    name: str
    display_name: str | None = None
    group: str | None = None
    consent: str | None = None


@dataclass(frozen=True, slots=True)
class GivenPhoto:
    """A photo that was sent: its file name, and its bytes or why they were refused while they came in."""

    file: str
    data: bytes | PhotoRefused


@dataclass(frozen=True, slots=True)
class Kept:
    """A photo that is in the gallery now."""

    file: str
    photo: Photo
    duplicate: bool
    """It was there before, byte for byte."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A photo that was not kept."""

    file: str
    reason: str


@dataclass(slots=True)
class Enrolled:
    """What became of the photos of one request."""

    kept: list[Kept] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


async def add_member(
    services: MemberServices,
    new: NewMember,
    given: AsyncIterable[GivenPhoto],
    *,
    source: str,
    pick: FacePick | None = None,
) -> Enrolled:
    """Make a member with its photos. It is there only if a photo was kept, or if none was given.

    Raises:
        GalleryError: the name cannot be used.
        MemberExists: the name is taken.
        VisionUnavailable: photos cannot be read now; the member is not made.
    """
    member_name.clean(new.name)
    await asyncio.to_thread(_check_free, services.gallery, new.name)
    enrolled = Enrolled()
    made = False
    try:
        async for photo in given:
            judged = await _judged(services, new.name, photo, source, pick, enrolled)
            if judged is None:
                continue
            if not made:
                await asyncio.to_thread(_make, services.gallery, new)
                made = True
            await _store(services.gallery, new.name, photo.file, judged, enrolled)
        if not enrolled.kept and not enrolled.refused:
            await asyncio.to_thread(_make, services.gallery, new)
            made = True
    except BaseException:
        if made:
            # Half a member would stand in the way of trying again.
            await asyncio.to_thread(_undo, services.gallery, new.name, enrolled)
        raise
    finally:
        if made:
            await services.gallery_changed()
    return enrolled


async def add_photos(
    services: MemberServices,
    name: str,
    given: AsyncIterable[GivenPhoto],
    *,
    source: str,
    pick: FacePick | None = None,
) -> Enrolled:
    """Add photos to a member; each is kept or refused by itself. The same bytes again are kept once.

    Raises:
        MemberUnknown: before the first photo, or when the member is removed meanwhile.
        VisionUnavailable: photos cannot be read now; those kept so far stay.
    """
    name = (await asyncio.to_thread(services.gallery.member, name)).name
    enrolled = Enrolled()
    try:
        async for photo in given:
            if isinstance(photo.data, bytes):
                present = await asyncio.to_thread(services.gallery.find_photo, name, photo.data)
                if present is not None:
                    enrolled.kept.append(Kept(photo.file, present, duplicate=True))
                    continue
            judged = await _judged(services, name, photo, source, pick, enrolled)
            if judged is not None:
                await _store(services.gallery, name, photo.file, judged, enrolled)
    finally:
        if any(not kept.duplicate for kept in enrolled.kept):
            await services.gallery_changed()
    return enrolled


async def enrol_demo_members(services: MemberServices, pictures: Mapping[str, Sequence[bytes]]) -> list[str]:
    """Enrol the people of the demo source where the gallery is empty; the names that were made.

    Args:
        pictures: Encoded photos by member.

    Raises:
        VisionUnavailable: photos cannot be read now.
    """
    if await asyncio.to_thread(services.gallery.members):
        return []
    made = []
    for name, encoded in pictures.items():
        given = [GivenPhoto(f"{name} {number}", data) for number, data in enumerate(encoded, start=1)]
        try:
            enrolled = await add_member(services, NewMember(name), each(given), source="demo")
        except MemberExists:
            continue  # another process was faster
        for refused in enrolled.refused:
            log.warning("demo photo refused: %s", refused.reason)
        if enrolled.kept:
            made.append(name)
    return made


async def embed_missing(services: MemberServices, model_id: str, hopeless: set[str]) -> int:
    """Read again the photos that the model in use has not embedded (the model changed, or another process added them
    with another one); how many were embedded. Photos that cannot be read are added to `hopeless` and left alone.

    Raises:
        VisionUnavailable: photos cannot be read now.
    """
    embedded = 0
    try:
        for photo in await asyncio.to_thread(services.gallery.photos_without, model_id):
            if photo.id in hopeless:
                continue
            if await _embed_again(services, photo, model_id):
                embedded += 1
            else:
                hopeless.add(photo.id)
    finally:
        if embedded:
            await services.gallery_changed()
    return embedded


async def each(given: Sequence[GivenPhoto]) -> AsyncIterator[GivenPhoto]:
    """Photos that are in memory already."""
    for photo in given:
        yield photo


async def _judged(
    services: MemberServices,
    name: str,
    given: GivenPhoto,
    source: str,
    pick: FacePick | None,
    enrolled: Enrolled,
) -> NewPhoto | None:
    """The photo, ready to be stored; None where it is refused, which `enrolled` then says."""
    try:
        if isinstance(given.data, PhotoRefused):
            raise given.data
        decoded = await asyncio.to_thread(photos.decode, given.data, given.file)
        # Uncompressed: the worker sees the pixels that were decoded here, and never the bytes of a stranger.
        reading = await services.read_photo(await asyncio.to_thread(photos.encode_bmp, decoded.bgr))
        known = await asyncio.to_thread(services.gallery.known, reading.model_id)
        return await asyncio.to_thread(
            enrolment.judge,
            given.data,
            decoded,
            reading,
            name=name,
            file=given.file,
            source=source,
            pick=pick,
            known=known,
        )
    except PhotoRefused as refusal:
        enrolled.refused.append(Refused(given.file, str(refusal)))
        return None


async def _store(gallery: Gallery, name: str, file: str, new: NewPhoto, enrolled: Enrolled) -> None:
    before = await asyncio.to_thread(gallery.find_photo, name, new.data)
    photo = await asyncio.to_thread(gallery.add_photo, name, new)
    enrolled.kept.append(Kept(file, photo, duplicate=before is not None))


async def _embed_again(services: MemberServices, photo: Photo, model_id: str) -> bool:
    try:
        data = await asyncio.to_thread(services.gallery.photo_bytes, photo.id)
        decoded = await asyncio.to_thread(photos.decode, data, photo.file)
        reading = await services.read_photo(await asyncio.to_thread(photos.encode_bmp, decoded.bgr))
    except (MemberUnknown, PhotoRefused) as exc:
        log.warning("photo %s cannot be read again for %s: %s", photo.id, model_id, exc)
        return False
    face = enrolment.same_face(reading, decoded.width, photo.face_xyxy)
    if face is None or reading.model_id != model_id:
        log.warning("photo %s: %s finds no face where one was enrolled; add another photo", photo.id, model_id)
        return False
    await asyncio.to_thread(services.gallery.add_embedding, photo.id, model_id, face)
    return True


def _check_free(gallery: Gallery, name: str) -> None:
    try:
        taken = gallery.member(name)
    except MemberUnknown:
        return
    raise MemberExists(f"there is a member {taken.name!r} already; add photos to it, or choose another name")


def _undo(gallery: Gallery, name: str, enrolled: Enrolled) -> None:
    """Take back what was stored, and nothing that another client has added to the member meanwhile."""
    with contextlib.suppress(MemberUnknown):
        for kept in enrolled.kept:
            gallery.remove_photo(name, kept.photo.id)
        gallery.remove_member(name, only_empty=True)


def _make(gallery: Gallery, new: NewMember) -> Member:
    return gallery.add_member(new.name, display_name=new.display_name, group=new.group, consent=new.consent)
