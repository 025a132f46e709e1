"""A multipart upload straight to its place on disk: no file in memory, none in the system's temporary folder."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

from streamer.errors import DiskFull, JobRefused
from streamer.jobs.desk import Draft
from streamer.jobs.folder import new_id, writing
from streamer.jobs.job import Input

MAX_FILES = 200
MAX_FIELDS = 64
MAX_FIELD_BYTES = 4096
WRITE_BYTES = 1 << 20
"""Gathered before a thread writes them: a request comes in pieces of 64 KiB."""

_SUFFIX = re.compile(r"\.[0-9a-z]{1,5}")


async def receive(request: Request, draft: Draft) -> dict[str, list[str]]:
    """Write the files of a form into `draft` and note them there; the other fields.

    Raises:
        HTTPException: the body is no proper form (400), not a form at all (415), larger than it may be (413).
        DiskFull: it does not fit.
        JobRefused: an empty file, or too many.
    """
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "send JSON with the header Content-Type: application/json, or files as multipart/form-data in field 'file'",
        )
    form = _Form(options[b"boundary"], draft)
    try:
        async for wanted in form.feed(request.stream()):
            await asyncio.to_thread(wanted.flush)
    finally:
        await asyncio.to_thread(form.close)
    empty = next((file.name for file in draft.inputs if not file.bytes), None)
    if empty is not None:
        raise JobRefused(f"{empty} is empty; choose another file")
    return form.fields


class _Form:
    """The parser's callbacks: fields to a dictionary, files to disk. Not thread-safe; the caller alternates."""

    def __init__(self, boundary: bytes, draft: Draft) -> None:
        self.fields: dict[str, list[str]] = {}
        self._draft = draft
        self._taken = 0
        self._header: list[bytes] = [b"", b""]
        self._disposition = b""
        self._field: tuple[str, bytearray] | None = None
        self._name = ""
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._size = 0
        self._pending: list[tuple[Path, bytes | None]] = []
        """Bytes to append to a file; None: it is whole."""
        self._pending_bytes = 0
        self._whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._on_header(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._on_header(1, data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": lambda data, start, end: self._on_data(data[start:end]),
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    async def feed(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[_Form]:
        """Parse; yields whenever there is enough to `flush`, and once at the end."""
        try:
            async for chunk in chunks:
                self._parser.write(chunk)
                if self._pending_bytes >= WRITE_BYTES:
                    yield self
            self._parser.finalize()
        except FormParserError as exc:
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"the form cannot be read: {exc}") from exc
        if not self._whole:
            raise HTTPException(
                HTTPStatus.BAD_REQUEST, "the form is cut short: its last boundary is missing; send it again"
            )
        yield self

    def flush(self) -> None:
        """Write what is gathered. Blocks. Raises `DiskFull`, `JobError`."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        with writing(self._draft.folder):
            for path, data in pending:
                if self._file is None:
                    self._file = path.open("xb")
                if data is None:
                    self._file.close()
                    self._file = None
                else:
                    self._file.write(data)

    def close(self) -> None:
        """Twice is fine. Blocks."""
        if self._file is not None:
            with writing(self._draft.folder):
                self._file.close()
            self._file = None

    def _on_part_begin(self) -> None:
        self._disposition = b""
        self._field = self._path = None

    def _on_header(self, which: int, data: bytes) -> None:
        # Newer releases of the library have such a limit themselves.
        if len(self._header[which]) + len(data) > MAX_FIELD_BYTES:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "a header in the form is too long")
        self._header[which] += data

    def _on_header_end(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = [b"", b""]

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options:
            field = options.get(b"name", b"").decode("utf-8", "replace")
            if sum(map(len, self.fields.values())) >= MAX_FIELDS:
                raise HTTPException(HTTPStatus.BAD_REQUEST, f"the form has more than {MAX_FIELDS} fields")
            self._field = (field, bytearray())
            return
        if len(self._draft.inputs) >= MAX_FILES:
            raise JobRefused(f"a job takes at most {MAX_FILES} files; send the rest as another")
        self._name = shown_name(options[b"filename"].decode("utf-8", "replace"))
        # In the order in which they were sent; else random.
        file = f"{len(self._draft.inputs):04d}-{new_id()}{_suffix(self._name)}"
        self._path = self._draft.folder / "input" / file
        self._size = 0

    def _on_data(self, data: bytes) -> None:
        if self._field is not None:
            if len(self._field[1]) + len(data) > MAX_FIELD_BYTES:
                raise HTTPException(HTTPStatus.BAD_REQUEST, f"field {self._field[0][:80]!r} is too long")
            self._field[1].extend(data)
        elif self._path is not None:
            self._taken += len(data)
            if self._taken > self._draft.max_bytes:
                raise DiskFull(
                    f"no room for more than {self._draft.max_bytes / 1e6:.0f} MB: delete finished jobs, or raise "
                    "jobs.max_upload_bytes"
                )
            self._size += len(data)
            self._pending.append((self._path, data))
            self._pending_bytes += len(data)

    def _on_part_end(self) -> None:
        if self._field is not None:
            name, value = self._field
            self.fields.setdefault(name, []).append(value.decode("utf-8", "replace"))
        elif self._path is not None and (self._name or self._size):
            # A browser sends a nameless empty file for an input in which none was chosen.
            self._draft.inputs.append(Input(self._path.name, self._name or "file", self._size))
            self._pending.append((self._path, None))

    def _on_end(self) -> None:
        self._whole = True


def shown_name(given: str) -> str:
    """The last part of a path that a client sent, fit to be shown; empty where there is none."""
    name = given.replace("\\", "/").rpartition("/")[2]
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())[:200]


def _suffix(name: str) -> str:
    """The ending of a file's name where it looks like one: some readers want it, and it is all that is kept."""
    suffix = Path(name).suffix.lower()
    return suffix if _SUFFIX.fullmatch(suffix) else ""
