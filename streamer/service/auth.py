"""Who may call: the bearer token or a signed link, the dashboard's origin, this machine's own names, sensible bodies.

A service on loopback is still reachable by any web page that the user has open. Two things keep those out: the Host
header must name this machine (a rebound DNS name does not), and a browser's request that changes something must come
from the dashboard's origin or from the service's own pages.
"""

from __future__ import annotations

import hmac
from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.service.links import Links, is_signed, opens
from streamer.service.problems import problem
from streamer.service.settings import Settings

OPEN_PATHS = ("/healthz", "/readyz", "/docs", "/openapi.json")
"""Answered without a token: whether the service runs, and its public description. /metrics is not among them."""

BODY_BYTES = 64 * 1024
"""Largest body, SDP offers and JSON alike; a browser's offer has 3-8 KiB."""

PHOTO_BODY_BYTES = 64 * 1024 * 1024
"""Largest body of a request that uploads photos."""

ARCHIVE_BODY_BYTES = 2 * 1024 * 1024 * 1024
"""Largest archive of members that is uploaded; a larger one is imported by the command line."""

_CHALLENGE = 'Bearer realm="streamer"'
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
_WILDCARDS = ("0.0.0.0", "::", "")
_REQUEST_HEADERS = ("Authorization", "Content-Type", "Accept", "Range", "If-Range", "If-Match", "Last-Event-ID")
_RESPONSE_HEADERS = (
    "Location",
    "Link",
    "Allow",
    "Content-Range",
    "Accept-Ranges",
    "Content-Disposition",
    "Retry-After",
)


def install(app: FastAPI, settings: Settings, links: Links) -> None:
    """Put the checks around `app`, outermost first: host, CORS, origin and token, body size."""
    origins = dashboard_origins(settings)
    # Starlette runs the middleware that was added last first.
    app.add_middleware(_BodyLimit, job_bytes=settings.jobs.max_upload_bytes)
    app.add_middleware(_Gate, token=settings.token, origins=frozenset(origins), links=links)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"],
        allow_headers=list(_REQUEST_HEADERS),
        expose_headers=list(_RESPONSE_HEADERS),
        max_age=600,
    )
    if settings.on_loopback:
        app.add_middleware(_OwnHost, names=frozenset((*_LOOPBACK_NAMES, settings.service.host)))


def dashboard_origins(settings: Settings) -> list[str]:
    """Origins whose pages may call the API from a browser: the dashboard's, and those of the configuration."""
    hosts = ["127.0.0.1", "localhost"]
    if settings.service.host not in (*hosts, *_WILDCARDS):
        hosts.append(_bracketed(settings.service.host))
    own = [f"http://{host}:{settings.service.dashboard_port}" for host in hosts]
    return own + [origin.rstrip("/") for origin in settings.service.allowed_origins]


class _OwnHost:
    """Refuses requests for names that are not this machine's: 421."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if _host_name(host) not in self._names:
                detail = f"this service answers for 127.0.0.1 and localhost only, not for {host!r}"
                await _refuse(HTTPStatus.MISDIRECTED_REQUEST, detail, "foreign-host")(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Gate:
    """Refuses changes from foreign pages (403), and calls with neither the token nor a link that is signed (401)."""

    def __init__(self, app: ASGIApp, token: str | None, origins: frozenset[str], links: Links) -> None:
        self._app = app
        self._links = links
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in _SAFE_METHODS and not self._knows(origin, scope, headers):
            detail = f"a page of {origin} may not change anything here; add it to service.allowed_origins if it should"
            return _refuse(HTTPStatus.FORBIDDEN, detail, "foreign-origin")
        if self._expected is None or scope["method"] == "OPTIONS" or _is_open(scope["path"]):
            return None
        given = headers.get("authorization", "").encode("latin-1")
        if hmac.compare_digest(_canonical(given), self._expected):
            return None
        query = scope["query_string"].decode("latin-1")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not given and scope["method"] in ("GET", "HEAD") and opens(path) and is_signed(query):
            why = self._links.refusal(path, query)
            challenge = {"WWW-Authenticate": _CHALLENGE}
            return None if why is None else _refuse(HTTPStatus.UNAUTHORIZED, why, "link-refused", challenge)
        detail = "the token is wrong" if given else "a token is needed"
        return _refuse(
            HTTPStatus.UNAUTHORIZED,
            f"{detail}: send 'Authorization: Bearer TOKEN' with the service's STREAMER_TOKEN",
            "unauthorized",
            {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"' if given else _CHALLENGE},
        )

    def _knows(self, origin: str, scope: Scope, headers: Headers) -> bool:
        return origin in self._origins or origin == f"{scope.get('scheme', 'http')}://{headers.get('host', '')}"


class _BodyLimit:
    """Refuses bodies over the limit (413), by their declared length or while they are read."""

    def __init__(self, app: ASGIApp, job_bytes: int) -> None:
        self._app = app
        # What surrounds the files in a form is not part of them.
        self._job_bytes = job_bytes + BODY_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _body_limit(scope, self._job_bytes)
        detail = f"the body is larger than the {limit // 1024} KiB that this route takes"
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            await _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, "body-too-large")(scope, receive, send)
            return
        taken = 0

        async def count() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            return message

        await self._app(scope, count, send)


def _body_limit(scope: Scope, job_bytes: int) -> int:
    if scope["path"] == "/api/archive":
        return ARCHIVE_BODY_BYTES
    upload = Headers(scope=scope).get("content-type", "").lower().startswith("multipart/form-data")
    if upload and scope["path"] == "/api/jobs":
        return job_bytes
    return PHOTO_BODY_BYTES if upload and scope["path"].startswith("/api/members") else BODY_BYTES


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith("/docs/")


def _canonical(given: bytes) -> bytes:
    """The scheme's name is case-insensitive (RFC 9110); the rest is compared as it came."""
    scheme, space, rest = given.partition(b" ")
    return (b"Bearer" if scheme.lower() == b"bearer" else scheme) + space + rest.strip()


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _refuse(status: int, detail: str, kind: str, headers: dict[str, str] | None = None) -> Response:
    return problem(status, detail, kind=kind, headers={"Cache-Control": "no-store", **(headers or {})})
