"""Writing members to an archive (see `archive`)."""

from __future__ import annotations

import contextlib
import os
import secrets
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from streamer.errors import GalleryError, MemberUnknown
from streamer.service.archive import (
    FORMAT,
    MANIFEST,
    VERSION,
    ArchivedMember,
    ArchivedPhoto,
    ArchivedRejection,
    Manifest,
)
from streamer.vision import member_name
from streamer.vision.gallery import Gallery
from streamer.vision.member import Member, Photo, RejectedFace


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    members: int
    photos: int
    rejected: int
    missing: tuple[str, ...]
    """What could not be taken along, a line each."""


def export_members(
    gallery: Gallery, file: Path, group: str | None = None, on_photo: Callable[[int, int], None] | None = None
) -> Exported:
    """Write the members, or those of one group, to the zip archive `file`; what stood there is replaced at the end.

    Blocks as long as copying the photos takes.

    Args:
        on_photo: Called with photos written so far and photos in all.

    Raises:
        GalleryError: nobody to export, or the file cannot be written.
    """
    members = gallery.members()
    wanted = [member for member in members if group is None or _is_in(member, group)]
    if not wanted:
        raise GalleryError(_nobody(members, group))
    # Beside its place, so that it takes that place in one step; photos of people are for their owner alone.
    half = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(os.open(half, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as raw:
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as packed:
                exported = _write(gallery, wanted, packed, on_photo or _silent)
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(half, file)
    except (OSError, ValueError) as exc:
        raise GalleryError(f"cannot write {file}: {exc}; choose another place") from exc
    finally:
        with contextlib.suppress(OSError, ValueError):
            half.unlink()
    return exported


def _write(
    gallery: Gallery, members: Sequence[Member], packed: zipfile.ZipFile, on_photo: Callable[[int, int], None]
) -> Exported:
    archived, missing = [], []
    done, total = 0, sum(len(member.photos) for member in members)
    for member in members:
        photos, rejected = [], []
        for photo in member.photos:
            entry = _photo(photo)
            try:
                packed.writestr(entry.path, gallery.photo_bytes(photo.id))
                photos.append(entry)
            except MemberUnknown as exc:
                missing.append(f"{member.name!r}, photo {photo.file!r}: {exc}")
            done += 1
            on_photo(done, total)
        for face in member.rejected:
            try:
                packed.writestr(f"rejected/{face.id}.jpg", gallery.rejected_jpeg(member.name, face.id))
                rejected.append(_rejection(face))
            except MemberUnknown as exc:
                missing.append(f"{member.name!r}, a rejected face: {exc}")
        archived.append(_member(member, photos, rejected))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = Manifest(format=FORMAT, version=VERSION, created_at=now, members=archived)
    packed.writestr(MANIFEST, manifest.model_dump_json(indent=1), zipfile.ZIP_DEFLATED)
    written = (sum(len(member.photos) for member in archived), sum(len(member.rejected) for member in archived))
    return Exported(len(archived), *written, tuple(missing))


def _member(member: Member, photos: list[ArchivedPhoto], rejected: list[ArchivedRejection]) -> ArchivedMember:
    return ArchivedMember(
        name=member.name,
        display_name=member.display_name,
        group=member.group,
        consent=member.consent,
        created_at=member.created_at,
        photos=photos,
        rejected=rejected,
    )


def _photo(photo: Photo) -> ArchivedPhoto:
    return ArchivedPhoto(
        path=f"photos/{photo.id}.{photo.extension}",
        file=photo.file,
        source=photo.source,
        face=photo.face_xyxy,
        remark=photo.remark,
        added_at=photo.added_at,
    )


def _rejection(face: RejectedFace) -> ArchivedRejection:
    return ArchivedRejection(
        path=f"rejected/{face.id}.jpg", source=face.source, face=face.face_xyxy, added_at=face.added_at
    )


def _is_in(member: Member, group: str) -> bool:
    return member.group is not None and member_name.key(member.group) == member_name.key(group)


def _nobody(members: Sequence[Member], group: str | None) -> str:
    if group is None:
        return "nobody is enrolled, so there is nobody to export"
    groups = sorted({member.group for member in members if member.group is not None})
    known = f"there are {', '.join(groups[:10])}" if groups else "no member is in one"
    return f"nobody is in the group {group[:60]!r}; {known}"


def _silent(_done: int, _total: int) -> None:
    pass
