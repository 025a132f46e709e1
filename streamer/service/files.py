"""Files as answers, whole or in parts."""

from __future__ import annotations

import re
from http import HTTPStatus

from fastapi.responses import FileResponse
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from streamer.service.problems import problem

_BEYOND = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
_RANGE = r"(\d{1,19}-\d{0,19}|-\d{1,19})"
_RANGES = re.compile(rf"bytes\s*=\s*{_RANGE}(\s*,\s*{_RANGE})*", re.IGNORECASE | re.ASCII)
_CLOSED = re.compile(r"(\d+)-(\d+)", re.ASCII)


class FileAnswer(FileResponse):
    """A `FileResponse` that ignores a `Range` it does not understand, and refuses one beyond the end with a problem.

    Both as RFC 9110 has it (14.2 and 15.5.17); Starlette's own answers are 400 and 416 in plain text.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Headers(scope=scope).get("range")
        if asked is not None and not _is_understood(asked):
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}
        refused: Message | None = None

        async def pass_on(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == _BEYOND:
                refused = message
            elif refused is None:
                await send(message)

        await super().__call__(scope, receive, pass_on)
        if refused is None or asked is None:
            return
        whole = Headers(raw=refused["headers"])["content-range"]
        length = whole.rpartition("/")[2]
        detail = f"the file has {length} bytes, so there is no {asked[:80]!r} of it; ask for less, or for all of it"
        await problem(_BEYOND, detail, headers={"Content-Range": whole})(scope, receive, send)
        if self.background is not None:
            await self.background()


def _is_understood(asked: str) -> bool:
    return _RANGES.fullmatch(asked.strip()) is not None and all(
        int(first) <= int(last) for first, last in _CLOSED.findall(asked)
    )
