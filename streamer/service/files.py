"""Files as answers, whole or in parts."""

from __future__ import annotations

import asyncio
import os
import re
import unicodedata
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from fastapi.responses import FileResponse
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.service.problems import problem

_RANGE = r"(\d{1,19}-\d{0,19}|-\d{1,19})"
_RANGES = re.compile(rf"bytes\s*=\s*{_RANGE}(\s*,\s*{_RANGE})*", re.IGNORECASE | re.ASCII)
_NOT_PLAIN = re.compile(r'[^ -~]|["\\/%;]')
"""What cannot stand in a quoted name, or what some program reads as something else."""
_CLOSED = re.compile(r"(\d+)-(\d+)", re.ASCII)


def disposition(name: str, kind: Literal["attachment", "inline"] = "attachment") -> str:
    """A Content-Disposition with the file's name, twice where needed: programs such as curl know the plain one only."""
    plain = _NOT_PLAIN.sub("_", "".join(_plain(character) for character in name))
    exact = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'{kind}; filename="{plain}"{exact}'


def _plain(character: str) -> str:
    """Without its accent, where there is a plain letter below."""
    below = unicodedata.normalize("NFKD", character)[0]
    return below if below.isascii() else "" if unicodedata.combining(character) else "_"


class FileAnswer(FileResponse):
    """A `FileResponse` that keeps to HTTP, and to its word.

    A `Range` that it does not understand is ignored, and one beyond the end is refused with a problem, as RFC 9110 has
    it (14.2 and 15.5.17); Starlette's own answers are 400 and 416 in plain text. A file that is gone is a problem too.
    Of one that grows meanwhile, a recording that runs, as much is sent as was promised.
    """

    def __init__(
        self,
        path: Path,
        *,
        status_code: int = HTTPStatus.OK,  # FastAPI's description of a route reads it here
        media_type: str,
        filename: str | None = None,
        kind: Literal["attachment", "inline"] = "attachment",
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        shown = {} if filename is None else {"Content-Disposition": disposition(filename, kind)}
        super().__init__(
            path, status_code, headers={**(headers or {}), **shown}, media_type=media_type, background=background
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Headers(scope=scope).get("range")
        if asked is not None and not _is_understood(asked):
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}
        try:
            self.stat_result = await asyncio.to_thread(os.stat, self.path)
        except OSError:
            refusal = problem(HTTPStatus.NOT_FOUND, "the file is gone: it was deleted meanwhile; list what is there")
        else:
            self.set_stat_headers(self.stat_result)
            answer = _Bounded(send)
            await super().__call__(scope, receive, answer.send)
            if answer.refused is None or asked is None:
                return
            refusal = _beyond(answer.refused, asked)
        await refusal(scope, receive, send)
        if self.background is not None:
            await self.background()


class _Bounded:
    """Passes an answer on, its body up to the length that its head promised; keeps a 416 back."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._left = 0
        self.refused: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.refused = message
                return
            self._left = int(Headers(raw=message["headers"])["content-length"])
        elif self.refused is not None:
            return
        else:
            body = message.get("body", b"")[: self._left]
            if not body and not self._left and message.get("more_body"):
                return
            self._left -= len(body)
            message = {**message, "body": body}
        await self._send(message)


class Bodiless:
    """Keeps the body of every answer to a HEAD back, whatever answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        asked = scope["type"] == "http" and scope["method"] == "HEAD"
        await self._app(scope, receive, head if asked else send)


def _beyond(refused: Message, asked: str) -> Response:
    whole = Headers(raw=refused["headers"])["content-range"]
    length = whole.rpartition("/")[2]
    detail = f"the file has {length} bytes, so there is no {asked[:80]!r} of it; ask for less, or for all of it"
    return problem(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, detail, headers={"Content-Range": whole})


def _is_understood(asked: str) -> bool:
    return _RANGES.fullmatch(asked.strip()) is not None and all(
        int(first) <= int(last) for first, last in _CLOSED.findall(asked)
    )
