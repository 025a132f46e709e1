"""Signed links: a video, a picture or a file of the service for whoever cannot send the token, for a few minutes.

A browser's <video> sends no header, and a token in an address would end up in histories and logs. A page that has the
token asks for links instead; each opens one file, for reading, until it expires or the service ends.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from streamer.service import schemas

LIFETIME_SECONDS = 900
"""From the making of a link to its end. A player that plays for longer asks for another one."""
MAX_LINKS = 100
"""Of one request."""

_OPENED = re.compile(
    r"/api/(jobs/\w{1,64}/(files\.zip|files/.+|inputs/[0-9]{1,3})"
    r"|recordings/\w(?!.*\.\.)[\w.-]{0,199}(/(sidecar|poster\.jpg))?)"
)
_NO_NAME = re.compile(r"[\x00-\x1f\x7f\\]|/\.{0,2}(/|$)")
"""In no path of a file: control characters, and steps that a client takes itself before it asks ("..", "//")."""
_EXPIRES = re.compile(r"[1-9][0-9]{0,11}")

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": schemas.Problem, "content": {"application/problem+json": {}}, "description": "What was wrong."}
}

router = APIRouter(prefix="/api/links", tags=["links"], responses=PROBLEMS)


class Links:
    """Makes and checks links, with a secret of this process: none outlives the service. Any thread may call.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock

    def expiry(self) -> int:
        """When a link that is made now ends, in seconds since the epoch."""
        return int(self._clock()) + LIFETIME_SECONDS

    def sign(self, path: str, expires: int, root: str = "") -> str:
        """A link to `path`, percent-encoded as the API names it, until `expires`. `root`: what may stand before /api.

        Raises:
            ValueError: it is no path of a video, a picture or a file.
        """
        try:
            signed = unquote(path.removeprefix(root), errors="strict")
        except UnicodeDecodeError:
            signed = ""
        if "?" in path or "#" in path or not opens(signed):
            raise ValueError(
                f"{path[:80]!r} is not a recording, nor a file of a job or a recording: only to those are links made; "
                "take the address from GET /api/recordings or GET /api/jobs"
            )
        return f"{path}?expires={expires}&sig={self._signature(signed, str(expires))}"

    def refusal(self, path: str, query: str) -> str | None:
        """Why the link of that (decoded) path and query opens nothing, in one line; None where it opens."""
        values = parse_qs(query, keep_blank_values=True)
        given, until = values.get("sig", []), values.get("expires", [])
        wrong = "the link is wrong, or of an earlier run of the service: ask for another one at POST /api/links"
        if len(given) != 1 or len(until) != 1 or not _EXPIRES.fullmatch(until[0]):
            return wrong
        if not hmac.compare_digest(given[0].encode(), self._signature(path, until[0]).encode()):
            return wrong
        # After the signature: who made the link up is not told how its time is judged.
        if int(until[0]) <= self._clock():
            return "the link has expired: ask for another one at POST /api/links"
        return None

    def _signature(self, path: str, expires: str) -> str:
        # `expires` holds digits alone, so that no path can be read as a part of it.
        return hmac.new(self._key, f"GET\n{expires}\n{path}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def opens(path: str) -> bool:
    """Whether links are made to that (decoded) path: recordings with their posters and results, and files of jobs."""
    return _OPENED.fullmatch(path) is not None and _NO_NAME.search(path) is None


def is_signed(query: str) -> bool:
    """Whether a query claims to be that of a link."""
    return re.search(r"(?:^|&)sig=", query) is not None


class LinksWanted(BaseModel):
    paths: list[Annotated[str, Field(max_length=2000)]] = Field(
        min_length=1, max_length=MAX_LINKS, examples=[["/api/recordings/a1b2c3d4_all_20261125T101500Z"]]
    )


class LinksMade(BaseModel):
    links: list[str] = Field(description="In the order of `paths`: each with `expires` and `sig` behind it.")
    expires_in_seconds: int


@router.post("", response_model=LinksMade)
async def make_links(wanted: LinksWanted, request: Request, response: Response) -> Any:
    """Addresses under which a player gets files without the token, for a quarter of an hour. `Range` works.

    For reading (GET and HEAD) recordings, their posters and results, and the files of jobs; nothing else. Needs the
    token itself.
    """
    links: Links = request.app.state.links
    expires = links.expiry()
    try:
        root = str(request.scope.get("root_path", ""))
        made = [links.sign(path, expires, root) for path in wanted.paths]
    except ValueError as exc:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(exc)) from exc
    response.headers["Cache-Control"] = "no-store"
    return LinksMade(links=made, expires_in_seconds=LIFETIME_SECONDS)
