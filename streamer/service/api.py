"""The routes of streams, and the list of all routers. Bodies are in `schemas.py`; errors become problems."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from streamer.errors import SourceUnusable, StreamConflict
from streamer.service import (
    archives,
    docs,
    events,
    health,
    jobs,
    links,
    members,
    metrics,
    recordings,
    schemas,
    sessions,
    tracks,
)
from streamer.service.problems import RETRY_AFTER_SECONDS, problem
from streamer.service.services import ServicesDep

DESCRIPTION = """
Watch live video in which one person, found by name, is segmented.

1. `POST /api/members` and upload photos of a person.
2. `POST /api/streams` with a source and that member.
3. Play it: `POST /api/streams/{id}/whep` with an SDP offer (WHEP), or open the dashboard.

Errors are problem details (RFC 9457): `detail` says what happened and what to do. Where the service has a token, send
it as `Authorization: Bearer TOKEN`.
"""

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": schemas.Problem, "content": {"application/problem+json": {}}, "description": "What was wrong."}
}

router = APIRouter(prefix="/api/streams", tags=["streams"], responses=PROBLEMS)


def routers() -> list[APIRouter]:
    """Every router of the service, in the order in which /docs shows them."""
    people = [tracks.router, members.router, members.groups_router, archives.router]
    files = [recordings.router, jobs.router, links.router]
    return [router, sessions.router, *files, *people, health.router, metrics.router]


@router.post("", status_code=201, response_model=schemas.StreamInfo)
async def create_stream(spec: schemas.StreamSpec, request: Request, response: Response, parts: ServicesDep) -> Any:
    """Open a source. The answer comes at once; `source.state` says whether frames flow yet."""
    if spec.source.kind == "file":
        await asyncio.to_thread(_check_file, Path(spec.source.path or ""))
    stream = await parts.streams.create(spec.source.given(), spec.member, spec.object, spec.style)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/api/streams/{stream.id}"
    return stream.info()


@router.get("", response_model=list[schemas.StreamInfo])
async def list_streams(parts: ServicesDep) -> Any:
    """Every stream, oldest first."""
    return [stream.info() for stream in parts.streams.all()]


@router.get("/{stream_id}", response_model=schemas.StreamInfo)
async def get_stream(stream_id: str, parts: ServicesDep) -> Any:
    """One stream with its numbers."""
    return parts.streams.get(stream_id).info()


@router.patch("/{stream_id}", response_model=schemas.StreamInfo)
async def change_stream(stream_id: str, patch: schemas.StreamPatch, parts: ServicesDep) -> Any:
    """Follow another member or object, or draw in another style, from the next frame on. Viewers stay connected."""
    stream = parts.streams.get(stream_id)
    await parts.streams.update(stream, **patch.given())
    return stream.info()


@router.delete("/{stream_id}", status_code=204)
async def remove_stream(stream_id: str, parts: ServicesDep) -> Response:
    """Close the source, end its viewers' sessions and its recording."""
    await parts.streams.remove(stream_id)
    return Response(status_code=204)


@router.get(
    "/{stream_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "One `data:` line of JSON a frame."}},
)
async def follow_stream(stream_id: str, request: Request, parts: ServicesDep) -> Response:
    """The result of every frame as server-sent events, until the stream ends. A slow reader misses frames."""
    stream = parts.streams.get(stream_id)
    return StreamingResponse(
        events.lines(stream.events(), events.closing(request.app)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.head("/{stream_id}/snapshot.jpg", include_in_schema=False)
@router.get(
    "/{stream_id}/snapshot.jpg",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 503: {"model": schemas.Problem, "description": "No picture yet."}},
)
async def snapshot(stream_id: str, parts: ServicesDep) -> Response:
    """The newest picture as viewers see it."""
    stream = parts.streams.get(stream_id)
    try:
        jpeg = await stream.snapshot()
    except StreamConflict as exc:
        return problem(503, str(exc), kind="no-picture-yet", headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    return Response(jpeg, media_type="image/jpeg")


def install(app: FastAPI) -> None:
    """Add every route, the page that describes them, and what ends event streams when the service stops."""
    app.description = DESCRIPTION
    events.install(app)
    docs.install(app)
    for part in routers():
        app.include_router(part)


def _check_file(path: Path) -> None:
    try:
        if not path.is_absolute():
            raise SourceUnusable(f"{path} is not an absolute path; the service does not know your working folder")
        if not path.is_file():
            there = "a folder or a device" if path.exists() else "not there"
            raise SourceUnusable(f"{path} on the service's machine is {there}; give the path of a video file")
        if path.stat().st_size == 0:
            raise SourceUnusable(f"the file {path} is empty (0 bytes); choose a video file")
    except (OSError, ValueError) as exc:
        raise SourceUnusable(f"cannot look at {path}: {exc}") from exc
