"""The results of a job as one zip archive, made while it is sent: nothing of it lies in memory or on disk."""

from __future__ import annotations

import asyncio
import time
import zipfile
from collections.abc import Generator, Sequence
from pathlib import Path, PurePosixPath

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from streamer.errors import FileUnknown, JobConflict
from streamer.jobs.folder import POSTER, JobFolder
from streamer.jobs.job import Job
from streamer.service import photo_folder

CHUNK_BYTES = 256 * 1024


def entries(job: Job, folder: JobFolder) -> list[tuple[str, Path]]:
    """Each result as its name in the archive and its file. Looks at the disk: blocks.

    The pictures of a photo lie in a folder called like the photo, as it was called where it came from.

    Raises:
        JobConflict: the job is not done.
        FileUnknown: it left no file, or one of them is gone.
    """
    if job.state != "done":
        raise JobConflict(f"job {job.id} is {job.state}: its files are there once it is done")
    names = [output.name for output in job.outputs if output.name != POSTER]
    if not names:
        raise FileUnknown(f"job {job.id} left no files")
    folders = _folders(job)
    found = []
    for name, path in zip(names, folder.find_all(names), strict=True):
        first, slash, rest = name.partition("/")
        found.append((f"{folders.get(first, first)}/{rest}" if slash else name, path))
    return found


def title(job: Job) -> str:
    """The archive's file name: the photo's or the video's, or whom several photos were searched for."""
    if len(job.inputs) == 1:
        return f"{photo_folder.fit(PurePosixPath(job.inputs[0].name).stem)}.zip"
    return f"{photo_folder.fit('_'.join(job.spec.get('member') or [job.kind]))}_{job.id}.zip"


def stream(files: Sequence[tuple[str, Path]]) -> Generator[bytes, None, None]:
    """The archive of these names and files, piece by piece; a step blocks for one read. Nothing is compressed again.

    Raises:
        OSError: a file is gone or cannot be read. The archive is then cut short, which no program takes for a whole.
    """
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            with path.open("rb") as source, archive.open(_entry(name, path), "w") as target:
                while data := source.read(CHUNK_BYTES):
                    target.write(data)
                    yield pieces.take()
    yield pieces.take()


class ZipResponse(StreamingResponse):
    """Sends what `stream` makes: each step on a thread, none ahead of what the client takes."""

    media_type = "application/zip"

    def __init__(self, pieces: Generator[bytes, None, None], headers: dict[str, str]) -> None:
        super().__init__(pieces, headers=headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            await super().__call__(scope, receive, send)
        finally:
            # A client that leaves stops it half way: its file must not stay open until garbage is collected.
            await asyncio.to_thread(self._pieces.close)


class _Pieces:
    """What zipfile writes, until it is taken. It can neither seek nor tell, so zipfile goes straight on."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        """There is nothing behind it."""

    def close(self) -> None:
        """Nor is there anything to close."""

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


def _entry(name: str, path: Path) -> zipfile.ZipInfo:
    about = path.stat()
    entry = zipfile.ZipInfo(name, time.localtime(about.st_mtime)[:6])
    entry.file_size = about.st_size  # so that zipfile knows what needs the format's 64-bit fields
    entry.external_attr = 0o644 << 16
    return entry


def _folders(job: Job) -> dict[str, str]:
    """By the folder that a photo's pictures are in on disk, the folder that they are in in the archive."""
    names = photo_folder.result_folders([given.name for given in job.inputs])
    return {Path(given.file).stem: name for given, name in zip(job.inputs, names, strict=True)}
