"""Recordings: start and stop on a stream; list, play, download and delete what is on disk."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from streamer.egress.poster import poster
from streamer.egress.presence import presences
from streamer.egress.recordings import Recording, delete_recording, find_recording, list_recordings
from streamer.errors import RecordingUnknown
from streamer.service.files import FileAnswer
from streamer.service.schemas import Problem, RecordingInfo, RecordingState, Timeline
from streamer.service.services import ServicesDep

router = APIRouter(tags=["recordings"], responses={404: {"model": Problem}})


@router.post("/api/streams/{stream_id}/recording", status_code=201, response_model=RecordingState)
async def start(stream_id: str, request: Request, response: Response, parts: ServicesDep) -> Any:
    """Record what viewers see, from the next keyframe on. 409 while the stream is recorded already."""
    state = await parts.streams.get(stream_id).start_recording()
    response.headers["Location"] = _address(request, state["id"])
    return state


@router.delete("/api/streams/{stream_id}/recording", response_model=RecordingState)
async def stop(stream_id: str, parts: ServicesDep) -> Any:
    """End the stream's recording; the answer is its final state."""
    return await parts.streams.get(stream_id).stop_recording()


@router.get("/api/recordings", response_model=list[RecordingInfo])
async def list_all(request: Request, parts: ServicesDep) -> Any:
    """Recordings on disk, newest first, also those of streams that are gone and those that run."""
    found = await asyncio.to_thread(list_recordings, parts.recordings)
    return [_info(recording, request) for recording in found]


@router.head("/api/recordings/{recording_id}", include_in_schema=False)
@router.get(
    "/api/recordings/{recording_id}",
    response_class=FileAnswer,
    responses={200: {"content": {"video/mp4": {}}}, 206: {"description": "The part that `Range` asked for."}},
)
async def media(recording_id: str, parts: ServicesDep) -> Response:
    """The video, MP4 with H.264. `Range` works, so a player can seek."""
    found = await asyncio.to_thread(find_recording, parts.recordings, recording_id)
    return FileAnswer(found.path, media_type="video/mp4", filename=f"{found.id}.mp4", kind="inline")


@router.head("/api/recordings/{recording_id}/sidecar", include_in_schema=False)
@router.get(
    "/api/recordings/{recording_id}/sidecar",
    response_class=FileAnswer,
    responses={200: {"content": {"application/jsonl": {}}}},
)
async def sidecar(recording_id: str, parts: ServicesDep) -> Response:
    """The results of the recorded frames, one JSON object a line."""
    found = await asyncio.to_thread(find_recording, parts.recordings, recording_id)
    if found.sidecar is None:
        raise RecordingUnknown(f"recording {recording_id} has no sidecar")
    return FileAnswer(found.sidecar, media_type="application/jsonl", filename=f"{found.id}.jsonl")


@router.get("/api/recordings/{recording_id}/timeline", response_model=Timeline)
async def timeline(recording_id: str, parts: ServicesDep) -> Any:
    """Who was on screen when, from the sidecar. Of a running recording: until now."""
    found = await asyncio.to_thread(find_recording, parts.recordings, recording_id)
    if found.sidecar is None:
        raise RecordingUnknown(f"recording {recording_id} has no sidecar")
    return Timeline.of(await asyncio.to_thread(presences, found.sidecar))


@router.head("/api/recordings/{recording_id}/poster.jpg", include_in_schema=False)
@router.get(
    "/api/recordings/{recording_id}/poster.jpg",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
)
async def picture(recording_id: str, parts: ServicesDep) -> Response:
    """A small picture out of the recording."""
    found = await asyncio.to_thread(find_recording, parts.recordings, recording_id)
    jpeg = await asyncio.to_thread(poster, found.path)
    if jpeg is None:
        raise RecordingUnknown(f"recording {recording_id} has no picture yet")
    return Response(jpeg, media_type="image/jpeg")


@router.delete(
    "/api/recordings/{recording_id}", status_code=204, response_class=Response, responses={409: {"model": Problem}}
)
async def remove(recording_id: str, parts: ServicesDep) -> Response:
    """Delete the video and its sidecar for good. 409 while it is being written."""
    await asyncio.to_thread(delete_recording, parts.recordings, recording_id)
    return Response(status_code=204)


def _info(recording: Recording, request: Request) -> RecordingInfo:
    return RecordingInfo(
        id=recording.id,
        bytes=recording.bytes,
        started_at=recording.started_at,
        running=recording.running,
        url=_address(request, recording.id),
        sidecar_url=None if recording.sidecar is None else f"{_address(request, recording.id)}/sidecar",
        timeline_url=None if recording.sidecar is None else f"{_address(request, recording.id)}/timeline",
        poster_url=f"{_address(request, recording.id)}/poster.jpg",
    )


def _address(request: Request, recording_id: str) -> str:
    # A member's name may be of any script; headers may not.
    return f"{request.scope.get('root_path', '')}/api/recordings/{quote(recording_id)}"
