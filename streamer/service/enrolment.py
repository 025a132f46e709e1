"""Enrolment as the service does it: the gallery in threads, the faces by the vision worker, the event loop free."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from streamer.errors import MemberExists, MemberUnknown, PhotoRefused
from streamer.tracks import Box
from streamer.vision import enrolment, member_name, photos
from streamer.vision.enrolment import FacePick
from streamer.vision.gallery import Gallery
from streamer.vision.known import PhotoReading
from streamer.vision.member import Member, NewMember, NewPhoto, NewRejection, Photo, RejectedFace

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
class GivenPhoto:
    """A photo that was sent: its file name, and its bytes or why they were refused while they came in."""

    file: str
    data: bytes | PhotoRefused
    face_xyxy: Box | None = None
    """The face that was enrolled before (pixels of the upright photo): that one is meant, and no other."""
    source: str | None = None
    """Where it came from at first, if that is known."""


@dataclass(frozen=True, slots=True)
class GivenRejection:
    """A face that was rejected for the member before, to be read again."""

    jpeg: bytes
    face_xyxy: Box
    """Pixels of `jpeg`."""
    source: str


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
    rejected: list[RejectedFace] = field(default_factory=list)
    """Faces stored as not the member's."""


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
            judged = await judge_given(services, new.name, photo, source, pick, enrolled)
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
            judged = await judge_given(services, name, photo, source, pick, enrolled)
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
    """Read again the photos and rejected faces that the model in use has not embedded (the model changed, or another
    process added them with another one); how many were embedded. Those that cannot be read are added to `hopeless` and
    left alone; a rejected face then bears a remark.

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
        for name, face in await asyncio.to_thread(services.gallery.rejected_without, model_id):
            if face.id in hopeless:
                continue
            if await _embed_rejected_again(services, name, face, model_id):
                embedded += 1
            else:
                hopeless.add(face.id)
    finally:
        if embedded:
            await services.gallery_changed()
    return embedded


async def each(given: Sequence[GivenPhoto]) -> AsyncIterator[GivenPhoto]:
    """Photos that are in memory already."""
    for photo in given:
        yield photo


async def judge_given(
    services: MemberServices,
    name: str,
    given: GivenPhoto,
    source: str,
    pick: FacePick | None,
    enrolled: Enrolled,
    before: Sequence[NewPhoto] = (),
) -> NewPhoto | None:
    """The photo, ready to be stored; None where it is refused, which `enrolled` then says.

    Args:
        before: Photos of the member that passed and are not stored yet.
    """
    try:
        if isinstance(given.data, PhotoRefused):
            raise given.data
        decoded = await asyncio.to_thread(photos.decode, given.data, given.file)
        # Uncompressed: the worker sees the pixels that were decoded here, and never the bytes of a stranger.
        reading = await services.read_photo(await asyncio.to_thread(photos.encode_bmp, decoded.bgr))
        if given.face_xyxy is not None:
            face = enrolment.same_face(reading, decoded.width, given.face_xyxy)
            if face is None:
                raise PhotoRefused(f"{given.file}: no face is found where one was enrolled; add another photo")
            reading = replace(reading, faces=(face,))
        known = await asyncio.to_thread(services.gallery.known, reading.model_id)
        for photo in before:
            known = enrolment.with_face(known, name, photo.face.embedding)
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


async def _embed_rejected_again(services: MemberServices, name: str, face: RejectedFace, model_id: str) -> bool:
    try:
        jpeg = await asyncio.to_thread(services.gallery.rejected_jpeg, name, face.id)
    except MemberUnknown as exc:
        log.warning("rejected face %s cannot be read again for %s: %s", face.id, model_id, exc)
        return False
    new = await read_rejection(services, GivenRejection(jpeg, face.face_xyxy, face.source))
    if new is None or new.model_id != model_id:
        remark = f"{model_id} finds no face in it: it does not weigh with this model"
        await asyncio.to_thread(services.gallery.remark_rejected, face.id, remark)
        return False
    await asyncio.to_thread(services.gallery.add_rejected_embedding, face.id, model_id, new.face.embedding)
    return True


async def read_rejection(services: MemberServices, given: GivenRejection) -> NewRejection | None:
    """A rejected face, read by the model in use; None where it finds no face in it."""
    try:
        decoded = await asyncio.to_thread(photos.decode, given.jpeg, "a rejected face")
        reading = await services.read_photo(await asyncio.to_thread(photos.encode_bmp, decoded.bgr))
    except PhotoRefused as exc:
        log.warning("a rejected face cannot be read: %s", exc)
        return None
    face = enrolment.same_face(reading, decoded.width, given.face_xyxy)
    if face is None:
        return None
    face = replace(face, box_xyxy=given.face_xyxy)
    return NewRejection(given.jpeg, decoded.width, decoded.height, given.source, reading.model_id, face)


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
