"""The routes of archives: everybody, or a group, as one file; and such a file read back in."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from streamer.service import importing, schemas
from streamer.service.archive import Archive
from streamer.service.export import export_members
from streamer.service.files import FileAnswer
from streamer.service.importing import Imported
from streamer.service.member_bodies import KeptPhoto, RefusedPhoto, kept_of, refused_of
from streamer.service.problems import problem
from streamer.service.services import ServicesDep
from streamer.vision import member_name
from streamer.vision.gallery_database import translated

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": schemas.Problem, "content": {"application/problem+json": {}}, "description": "What was wrong."}
}
MEDIA_TYPE = "application/zip"
LEFT_BEHIND_SECONDS = 600.0
"""A folder that nothing was added to for so long belongs to nobody who still runs."""
_PREFIX = ".archive-"
_TAKEN = (MEDIA_TYPE, "application/x-zip-compressed", "application/octet-stream")

router = APIRouter(prefix="/api/archive", tags=["members"], responses=PROBLEMS)

Group = Annotated[str | None, Query(max_length=100, description="Of which group; left out: everybody.")]
NewGroup = Annotated[str | None, Query(max_length=100, description="The group that all of them are in from now on.")]


class ImportedMember(BaseModel):
    """What became of one member."""

    name: str
    kept: list[KeptPhoto]
    refused: list[RefusedPhoto]
    rejected: int = Field(description="Rejected faces that were taken over.")


class ImportReport(BaseModel):
    """What became of an archive, member by member."""

    members: list[ImportedMember]


@router.head("", include_in_schema=False)
@router.get("", response_class=FileAnswer, responses={200: {"content": {MEDIA_TYPE: {}}}})
async def export(parts: ServicesDep, group: Group = None) -> Response:
    """Everybody, or a group, with photos and rejected faces as a zip archive. 422 where there is nobody."""
    folder = await asyncio.to_thread(_folder, parts.gallery.folder)
    try:
        file = Path(folder.name) / "members.zip"
        await asyncio.to_thread(export_members, parts.gallery, file, group)
    except BaseException:
        await asyncio.to_thread(folder.cleanup)
        raise
    name = "members.zip" if group is None else f"{member_name.key(group).replace('/', '-')}.zip"
    done = BackgroundTask(folder.cleanup)
    return FileAnswer(file, media_type=MEDIA_TYPE, filename=name, background=done)


_BODY = {"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}}


@router.post("", response_model=ImportReport, openapi_extra=_BODY)
async def import_archive(request: Request, parts: ServicesDep, group: NewGroup = None) -> Any:
    """Read an archive in. Members that are there get what they lack; each is stored whole or not at all."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _TAKEN:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"an archive is sent as {MEDIA_TYPE}, as the whole body")
    async with _received(request, parts) as file:
        archive = await asyncio.to_thread(Archive, file, "that was sent")
        try:
            shares = importing.archive_shares(archive)
            imported = await importing.run(parts, shares, source="archive", group=group, on_photo=_silent)
        finally:
            await asyncio.to_thread(archive.close)
    refused = [entry for one in imported for entry in refused_of(one.enrolled)]
    if refused and not any(one.enrolled.kept for one in imported):
        detail = f"nothing was kept of {len(refused)}: {refused[0].reason}"
        told = [entry.model_dump() for entry in refused[:100]]
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, kind="photo-refused", refused=told)
    root = str(request.scope.get("root_path", ""))
    return ImportReport(members=[_told(one, root) for one in imported])


@contextlib.asynccontextmanager
async def _received(request: Request, parts: ServicesDep) -> AsyncIterator[Path]:
    """The body as a file that is gone afterwards. Its size is bounded outside."""
    folder = await asyncio.to_thread(_folder, parts.gallery.folder)
    try:
        file = Path(folder.name) / "members.zip"
        with translated(file), await asyncio.to_thread(file.open, "wb") as written:
            async for part in request.stream():
                await asyncio.to_thread(written.write, part)
        yield file
    finally:
        await asyncio.to_thread(folder.cleanup)


def sweep(gallery: Path) -> None:
    """Delete the copies of photos that a killed service left behind in its gallery's folder."""
    for left in gallery.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT_BEHIND_SECONDS:
                shutil.rmtree(left)


def _folder(gallery: Path) -> tempfile.TemporaryDirectory[str]:
    """For its owner alone, on the disk that holds the gallery."""
    with translated(gallery):
        return tempfile.TemporaryDirectory(prefix=_PREFIX, dir=gallery, ignore_cleanup_errors=True)


def _told(one: Imported, root: str) -> ImportedMember:
    return ImportedMember(
        name=one.name,
        kept=kept_of(one.name, one.enrolled, root),
        refused=refused_of(one.enrolled),
        rejected=len(one.enrolled.rejected),
    )


def _silent(_done: int, _total: int, _file: str) -> None:
    pass
