"""Recordings: start and stop on a stream; list, play, download and delete what is on disk."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from streamer.egress.recorder import list_recordings
from streamer.errors import StreamConflict, StreamUnknown
from streamer.service.schemas import Problem, RecordingInfo, RecordingState
from streamer.service.services import Services, ServicesDep

router = APIRouter(tags=["recordings"], responses={404: {"model": Problem}})

_ID = re.compile(r"[\w][\w.+@ -]{0,199}", re.UNICODE)
"""A recording's id is its file's name without the suffix; no separator, no leading dot."""


@router.post("/api/streams/{stream_id}/recording", status_code=201, response_model=RecordingState)
async def start(stream_id: str, request: Request, response: Response, parts: ServicesDep) -> Any:
    """Record what viewers see, from the next keyframe on. 409 while the stream is recorded already."""
    state = await parts.streams.get(stream_id).start_recording()
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/api/recordings/{_id_of(state)}"
    return _with_id(state)


@router.delete("/api/streams/{stream_id}/recording", response_model=RecordingState)
async def stop(stream_id: str, parts: ServicesDep) -> Any:
    """End the stream's recording; the answer is its final state."""
    return _with_id(await parts.streams.get(stream_id).stop_recording())


@router.get("/api/recordings", response_model=list[RecordingInfo])
async def list_all(parts: ServicesDep) -> Any:
    """Recordings on disk, also of streams that are gone and of one that runs."""
    return await asyncio.to_thread(list_recordings, parts.recordings)


@router.head("/api/recordings/{recording_id}", include_in_schema=False)
@router.get(
    "/api/recordings/{recording_id}",
    response_class=FileResponse,
    responses={200: {"content": {"video/mp4": {}}}, 206: {"description": "The part that Range asked for."}},
)
async def media(recording_id: str, parts: ServicesDep) -> Response:
    """The video, MP4 with H.264; `Range` works, so a player can seek."""
    path = await asyncio.to_thread(_path, parts.recordings, recording_id, ".mp4")
    return FileResponse(path, media_type="video/mp4", filename=path.name, content_disposition_type="inline")


@router.head("/api/recordings/{recording_id}/sidecar", include_in_schema=False)
@router.get(
    "/api/recordings/{recording_id}/sidecar",
    response_class=FileResponse,
    responses={200: {"content": {"application/jsonl": {}}}},
)
async def sidecar(recording_id: str, parts: ServicesDep) -> Response:
    """The results of the recorded frames, one JSON object a line."""
    path = await asyncio.to_thread(_path, parts.recordings, recording_id, ".jsonl")
    return FileResponse(path, media_type="application/jsonl", filename=path.name)


@router.delete("/api/recordings/{recording_id}", status_code=204, response_class=Response)
async def remove(recording_id: str, parts: ServicesDep) -> Response:
    """Delete the video and its sidecar for good. 409 while it is being written."""
    if recording_id in _running(parts):
        raise StreamConflict(f"recording {recording_id} is being written; stop it first")
    video = await asyncio.to_thread(_path, parts.recordings, recording_id, ".mp4")
    await asyncio.to_thread(_delete, video)
    return Response(status_code=204)


def _running(parts: Services) -> set[str]:
    states = [stream.info()["recording"] for stream in parts.streams.all()]
    return {_id_of(state) for state in states if state is not None and state.get("ended_reason") is None}


def _path(folder: Path, recording_id: str, suffix: str) -> Path:
    """The file of a recording. Raises `StreamUnknown` for whatever is not one, inside or outside the folder."""
    unknown = StreamUnknown(f"there is no recording {recording_id!r}; GET /api/recordings lists them")
    if not _ID.fullmatch(recording_id):
        raise unknown
    path = folder / f"{recording_id}{suffix}"
    if path.is_symlink() or not path.is_file():
        raise unknown
    return path


def _delete(video: Path) -> None:
    video.with_suffix(".jsonl").unlink(missing_ok=True)
    video.unlink(missing_ok=True)


def _with_id(state: dict[str, Any]) -> dict[str, Any]:
    return {"id": _id_of(state), **state}


def _id_of(state: dict[str, Any]) -> str:
    return Path(str(state["path"])).stem
