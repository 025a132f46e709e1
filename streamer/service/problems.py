"""Errors as RFC 9457 problem details (application/problem+json), for every status and from one table."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPMethod, HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer import errors
from streamer.errors import StreamerError, redact

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_SECONDS = 2
"""Said with 503: a worker restarts in about this time."""

STATUSES: Mapping[type[StreamerError], HTTPStatus] = {
    errors.SourceUnusable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.SourceUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SourceError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.PromptUnsupported: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.VisionError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.MemberUnknown: HTTPStatus.NOT_FOUND,
    errors.MemberExists: HTTPStatus.CONFLICT,
    errors.PhotoRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.GalleryUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.GalleryError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.CodecUnsupported: HTTPStatus.NOT_ACCEPTABLE,
    errors.NegotiationError: HTTPStatus.BAD_REQUEST,
    errors.StreamUnknown: HTTPStatus.NOT_FOUND,
    errors.StreamConflict: HTTPStatus.CONFLICT,
    errors.JobUnknown: HTTPStatus.NOT_FOUND,
    errors.JobConflict: HTTPStatus.CONFLICT,
    errors.DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.JobRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.JobError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.LimitReached: HTTPStatus.TOO_MANY_REQUESTS,
    errors.RecordingUnknown: HTTPStatus.NOT_FOUND,
    errors.RecordingError: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.ConfigError: HTTPStatus.INTERNAL_SERVER_ERROR,
    StreamerError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The status of an error is that of the nearest class above it in this table."""


def status_of(error: StreamerError) -> HTTPStatus:
    """The HTTP status that answers `error`."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem(
    status: int,
    detail: str,
    *,
    kind: str | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """A problem+json response. `kind` ("member-unknown") names the problem type; `members` are extension members."""
    known = HTTPStatus(status)
    body = {
        "type": f"urn:streamer:problem:{kind}" if kind else "about:blank",
        "title": kind.replace("-", " ").capitalize() if kind else known.phrase,
        "status": status,
        "detail": redact(detail),
        **members,
    }
    return Response(json.dumps(body), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def from_error(error: StreamerError) -> Response:
    """The response to an error of this project's own tree."""
    status = status_of(error)
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return problem(status, str(error), kind=_kind(type(error)), headers=headers)


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem: its own tree, validation, unknown routes, bugs."""
    app.add_exception_handler(StreamerError, _on_streamer_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_middleware(_Bugs)


async def _on_streamer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StreamerError)
    return from_error(error)


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes) and any(tuple(entry["loc"]) == ("body",) for entry in error.errors()):
        # `curl -d` calls everything a form, and what is not called JSON is not read as JSON.
        detail = "the body is not said to be JSON: send it with the header Content-Type: application/json"
        return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    found = [_complaint(entry) for entry in error.errors()]
    if error.errors()[0]["type"] == "json_invalid":
        return problem(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error.errors()[0]['ctx']['error']}")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{found[0]['field']}: {found[0]['detail']}{more}",
        kind="invalid-request",
        errors=found,
    )


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if detail == HTTPStatus(error.status_code).phrase:
        detail = f"{request.method} {request.url.path}: {detail}; see /docs for the routes"
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework tells of the first route of the path alone.
        headers = {**(headers or {}), "Allow": ", ".join(_methods(request))}
    return problem(error.status_code, detail, headers=headers)


def _methods(request: Request) -> list[str]:
    """What the path of `request` may be asked with."""
    scopes = {method: {**request.scope, "method": method} for method in sorted(HTTPMethod)}
    routes = request.app.routes
    return [name for name, scope in scopes.items() if any(r.matches(scope)[0] is Match.FULL for r in routes)]


class _Bugs:
    """Answers what nothing else caught: an id for the user, the traceback under that id in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                # Answers hold names and pictures of people: nothing on the way keeps a copy unless a route says so.
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            return
        except Exception:
            error_id = secrets.token_hex(6)
            log.exception("error %s in %s %s", error_id, scope["method"], scope["path"])
            if started:
                raise
            detail = f"an unexpected error; its traceback is in the service's log under {error_id}"
            await problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail, error_id=error_id)(scope, receive, send)


def _complaint(entry: Mapping[str, Any]) -> dict[str, str]:
    """One pydantic error as {"field": "source.url", "detail": …}; the refused value stays out: it may be a secret."""
    return {"field": _field(entry["loc"]), "detail": redact(str(entry["msg"]).removeprefix("Value error, "))}


def _field(location: Sequence[str | int]) -> str:
    # The first element says where ("body", "query", "path"); it is the name only when the whole body is wrong.
    parts = [str(part) for part in location]
    return ".".join(parts[1:]) if len(parts) > 1 else ".".join(parts)


def _kind(error_class: type[StreamerError]) -> str:
    name = error_class.__name__.removesuffix("Error")
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).removeprefix("-")
