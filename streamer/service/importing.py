"""Members in bulk: from a folder with a folder of photos for each, or from an archive that was exported.

Each member is stored with all photos that pass at once; what goes wrong with one leaves the others alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import ConfigError, GalleryError, GalleryUnavailable, MemberUnknown, PhotoRefused
from streamer.service import photo_folder
from streamer.service.archive import Archive, ArchivedMember
from streamer.service.enrolment import (
    Enrolled,
    GivenPhoto,
    GivenRejection,
    Kept,
    MemberServices,
    Refused,
    judge_given,
    read_rejection,
)
from streamer.service.settings import RosterMember
from streamer.vision import member_name
from streamer.vision.gallery import Gallery
from streamer.vision.member import NewMember, NewPhoto, Photo

MAX_MEMBER_BYTES = 512_000_000
"""Bytes of one member's photos in one import: they are in memory until all of them are stored at once."""

Noted = Callable[[int, int, str], None]
"""Called with photos looked at so far, photos in all, and the file that is next."""


@dataclass(frozen=True, slots=True)
class Share:
    """What an import holds of one member."""

    new: NewMember
    photos: int
    read: Callable[[], AsyncIterator[GivenPhoto]]
    rejections: Callable[[], Sequence[GivenRejection]] = tuple
    """May block."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one member in an import."""

    name: str
    enrolled: Enrolled


async def run(
    services: MemberServices, shares: Sequence[Share], *, source: str, group: str | None = None, on_photo: Noted
) -> list[Imported]:
    """Store every share; what became of each, in their order.

    Args:
        group: The group that all of them are in from now on, whatever they were in before.

    Raises:
        GalleryError: the group's name cannot be used.
        GalleryUnavailable, VisionUnavailable: from here on nothing can be stored; members before stay.
    """
    wanted = None if group is None else member_name.clean_text(group, "group")
    done, total = 0, sum(share.photos for share in shares)

    async def counted(share: Share) -> AsyncIterator[GivenPhoto]:
        nonlocal done
        async for photo in share.read():
            on_photo(done, total, photo.file)
            yield photo
            done += 1
            on_photo(done, total, photo.file)

    results = []
    for share in shares:
        new = (
            share.new
            if wanted is None
            else NewMember(share.new.name, share.new.display_name, wanted, share.new.consent)
        )
        try:
            rejections = await asyncio.to_thread(share.rejections)
            enrolled = await import_member(
                services, new, counted(share), rejections, source=source, regroup=wanted is not None
            )
            name = await asyncio.to_thread(_spelling, services.gallery, new.name)
        except GalleryUnavailable:
            raise
        except GalleryError as exc:
            # A name that cannot be, say. The other members do not suffer for it.
            name, enrolled = new.name[: member_name.MAX_CHARACTERS], Enrolled()
            enrolled.refused.append(Refused("", str(exc)))
        results.append(Imported(name, enrolled))
    return results


async def import_member(
    services: MemberServices,
    new: NewMember,
    given: AsyncIterator[GivenPhoto],
    rejections: Sequence[GivenRejection] = (),
    *,
    source: str,
    regroup: bool = False,
) -> Enrolled:
    """Store a member with all photos that pass and all rejected faces, or, where this fails half-way, nothing.

    A member that is there gets what is missing. One of whose photos none is kept is not made.

    Args:
        regroup: `new.group` counts for a member that is there, too.

    Raises:
        GalleryError: the name cannot be used.
        VisionUnavailable: photos cannot be read now.
    """
    member_name.clean(new.name)
    gallery, enrolled = services.gallery, Enrolled()
    pending: list[tuple[str, NewPhoto]] = []
    taken = 0
    async for photo in given:
        present = await asyncio.to_thread(_present, gallery, new.name, photo)
        if present is not None:
            enrolled.kept.append(Kept(photo.file, present, duplicate=True))
            continue
        taken += len(photo.data) if isinstance(photo.data, bytes) else 0
        if taken > MAX_MEMBER_BYTES:
            reason = f"the photos of one member take more than {MAX_MEMBER_BYTES // 10**6} MB; import them in parts"
            enrolled.refused.append(Refused(photo.file, f"{photo.file}: {reason}"))
            continue
        before = [judged for _, judged in pending]
        judged = await judge_given(services, new.name, photo, photo.source or source, None, enrolled, before)
        if judged is not None:
            pending.append((photo.file, judged))
    if enrolled.refused and not enrolled.kept and not pending:
        return enrolled
    faces = []
    for entry in rejections:
        face = await read_rejection(services, entry)
        if face is not None:
            faces.append(face)
        else:
            enrolled.refused.append(Refused("a rejected face", "no face is found in it by the model in use; left out"))
    stored, enrolled.rejected = await asyncio.to_thread(
        gallery.enrol, new, [judged for _, judged in pending], faces, regroup=regroup
    )
    # The same bytes twice in one import are one photo.
    seen = {kept.photo.id for kept in enrolled.kept}
    for (file, _), stored_photo in zip(pending, stored, strict=True):
        enrolled.kept.append(Kept(file, stored_photo, duplicate=stored_photo.id in seen))
        seen.add(stored_photo.id)
    await services.gallery_changed()
    return enrolled


def folder_shares(folder: Path, roster: Iterable[RosterMember] = ()) -> list[Share]:
    """The members of a folder that holds one folder of photos for each. Blocks.

    Args:
        roster: Who is expected: display names and groups, and who has no folder yet.

    Raises:
        GalleryError: the folder cannot be read, or holds no folders.
        ConfigError: the roster names somebody twice.
    """
    try:
        subfolders = photo_folder.subfolders(folder)
    except OSError as exc:
        reason = exc.strerror or exc
        raise GalleryError(f"cannot read the folder {photo_folder.shown(folder)}: {reason}; check the path") from exc
    expected = _by_folder(roster)
    if not subfolders:
        hint = "put the photos of each member into a folder of its own, or use `streamer members add NAME PHOTO...`"
        raise GalleryError(f"the folder {photo_folder.shown(folder)} holds no folders, one a member: {hint}")
    shares = []
    for subfolder in subfolders:
        name = subfolder.name
        entry = expected.pop(member_name.key(name), None)
        new = (
            NewMember(name) if entry is None else NewMember(entry.name, entry.display_name, entry.group, entry.consent)
        )
        files = photo_folder.images(subfolder)
        shares.append(Share(new, max(len(files), 1), _reader(files, subfolder, folder)))
    for entry in expected.values():
        wanted = entry.folder or entry.name
        missing = f"{wanted}: there is no such folder in {photo_folder.shown(folder)}; make it and put photos into it"
        shares.append(Share(NewMember(entry.name), 1, _refusing(wanted, missing)))
    loose = photo_folder.images(folder)
    if loose:
        file = photo_folder.shown(Path(loose[0].name))
        more = f" (and {len(loose) - 1} more)" if len(loose) > 1 else ""
        shares.append(Share(NewMember("-"), 1, _refusing(file, f"{file}: lies in no member's folder{more}")))
    return shares


def archive_shares(archive: Archive) -> list[Share]:
    """The members of an opened archive; it stays open until they are read."""
    return [_archived(archive, member) for member in archive.manifest.members]


def _archived(archive: Archive, member: ArchivedMember) -> Share:
    async def read() -> AsyncIterator[GivenPhoto]:
        for photo in member.photos:
            file = photo_folder.shown(Path(photo.file)) or photo.path
            try:
                data: bytes | PhotoRefused = await asyncio.to_thread(archive.read, photo.path)
            except GalleryError as exc:
                data = PhotoRefused(f"{file}: {exc}")
            yield GivenPhoto(file, data, photo.face, photo.source)

    def rejections() -> list[GivenRejection]:
        return [GivenRejection(archive.read(face.path), face.face, face.source) for face in member.rejected]

    new = NewMember(member.name, member.display_name, member.group, member.consent)
    return Share(new, len(member.photos), read, rejections)


def _reader(files: Sequence[Path], subfolder: Path, folder: Path) -> Callable[[], AsyncIterator[GivenPhoto]]:
    async def read() -> AsyncIterator[GivenPhoto]:
        for file in files or [subfolder]:
            shown = photo_folder.shown(file.relative_to(folder))
            data = await asyncio.to_thread(photo_folder.read_file, file, shown)
            yield GivenPhoto(shown, data)

    return read


def _refusing(file: str, reason: str) -> Callable[[], AsyncIterator[GivenPhoto]]:
    async def read() -> AsyncIterator[GivenPhoto]:
        yield GivenPhoto(file, PhotoRefused(reason))

    return read


def _by_folder(roster: Iterable[RosterMember]) -> dict[str, RosterMember]:
    expected: dict[str, RosterMember] = {}
    for entry in roster:
        key = member_name.key(entry.folder or entry.name)
        if key in expected:
            raise ConfigError(f"setting 'members' names {entry.folder or entry.name!r} twice; leave one out")
        expected[key] = entry
    return expected


def _spelling(gallery: Gallery, name: str) -> str:
    try:
        return gallery.member(name).name
    except MemberUnknown:
        return name


def _present(gallery: Gallery, name: str, given: GivenPhoto) -> Photo | None:
    """The photo of these bytes, if the member is there and has it."""
    if isinstance(given.data, PhotoRefused):
        return None
    with contextlib.suppress(MemberUnknown):
        return gallery.find_photo(name, given.data)
    return None
