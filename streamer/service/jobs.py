"""Jobs: photos, video files and re-renders that the service works on in the background."""

from __future__ import annotations

import asyncio
import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from streamer.egress.presence import presences
from streamer.errors import FileUnknown
from streamer.jobs.command import SIDECAR
from streamer.jobs.folder import POSTER
from streamer.jobs.job import Job, JobSpec, Kind, State
from streamer.jobs.runner import Jobs
from streamer.service import bundle, schemas
from streamer.service.files import FileAnswer, disposition
from streamer.service.schemas import Timeline
from streamer.service.services import Services, ServicesDep
from streamer.service.uploads import MAX_FILES, receive

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": schemas.Problem, "content": {"application/problem+json": {}}, "description": "What was wrong."}
}

router = APIRouter(prefix="/api/jobs", tags=["jobs"], responses=PROBLEMS)

MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
}
"""What a browser may show. Whatever else was uploaded is a lump of bytes: never a page of this service's origin."""


class ProgressInfo(BaseModel):
    done: int = Field(description="Frames or photos.")
    total: int | None
    fps: float | None
    eta_seconds: float | None
    stage: str | None


class FileInfo(BaseModel):
    name: str = Field(examples=["video.mp4"])
    bytes: int
    media_type: str
    url: str


class InputInfo(BaseModel):
    name: str = Field(description="As it was uploaded; of a recording or a job its id.")
    bytes: int | None
    media_type: str | None
    url: str | None


class JobInfo(BaseModel):
    """A job as it is now."""

    id: str
    kind: Kind
    state: State
    cancelling: bool = Field(description="It was asked to end and has not yet.")
    reason: str | None = Field(description="Why it failed or was interrupted.")
    spec: dict[str, Any] = Field(description="What was asked for.")
    inputs: list[InputInfo]
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    progress: ProgressInfo | None
    result: dict[str, Any] | None = Field(description="What the command says of its result.")
    files: list[FileInfo] = Field(description="Results; there once the job is done.")
    poster_url: str | None
    timeline_url: str | None
    zip_url: str | None = Field(description="All results in one archive.")


_FILES = {
    "type": "array",
    "items": {"type": "string", "format": "binary"},
    "description": f"A video, or 1 to {MAX_FILES} photos.",
}


def _body_schema() -> dict[str, Any]:
    schema = JobSpec.model_json_schema()
    form = {"type": "object", "properties": {**schema["properties"], "file": _FILES}, "required": ["kind", "file"]}
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


@router.post("", status_code=201, response_model=JobInfo, openapi_extra=_body_schema())
async def create_job(request: Request, response: Response, parts: ServicesDep) -> Any:
    """Queue a job: a form with files, or JSON that names a recording or a finished video. It may wait for its turn.

    `image` makes annotated.png, overlay.png, cutout.png and result.json of each photo; `video` a video and its
    results, one JSON object a frame; `render` draws a video anew from its results, without a model. A recording holds
    the picture as viewers saw it: a style is drawn over that.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        spec = _spec(await _json(request))
        await _check_members(spec, parts)
        job = await parts.jobs.submit(spec)
    else:
        async with parts.jobs.draft() as draft:
            fields = await receive(request, draft)
            spec = _spec({key: values if key == "member" else values[-1] for key, values in _said(fields)})
            await _check_members(spec, parts)
            job = await parts.jobs.submit(spec, draft)
    response.headers["Location"] = _path(request, job.id)
    return _info(job, request, parts.jobs)


@router.get("", response_model=list[JobInfo])
async def list_jobs(request: Request, parts: ServicesDep) -> Any:
    """Every job, newest first."""
    return [_info(job, request, parts.jobs) for job in await parts.jobs.all()]


@router.get("/{job_id}", response_model=JobInfo)
async def get_job(job_id: str, request: Request, parts: ServicesDep) -> Any:
    """One job with its progress."""
    return _info(await parts.jobs.get(job_id), request, parts.jobs)


@router.post("/{job_id}/cancel", status_code=202, response_model=JobInfo)
async def cancel_job(job_id: str, request: Request, parts: ServicesDep) -> Any:
    """End a job and remove its files, the uploaded ones too. A running one is `cancelled` within seconds."""
    return _info(await parts.jobs.cancel(job_id), request, parts.jobs)


@router.post("/{job_id}/resume", status_code=202, response_model=JobInfo)
async def resume_job(job_id: str, request: Request, parts: ServicesDep) -> Any:
    """Queue an interrupted or failed job again. A video goes on where it ended."""
    return _info(await parts.jobs.resume(job_id), request, parts.jobs)


@router.delete("/{job_id}", status_code=204, response_class=Response)
async def delete_job(job_id: str, parts: ServicesDep) -> Response:
    """Forget a job and remove its files, for good. 409 while it runs."""
    await parts.jobs.delete(job_id)
    return Response(status_code=204)


@router.head("/{job_id}/files/{name:path}", include_in_schema=False)
@router.get(
    "/{job_id}/files/{name:path}",
    response_class=FileAnswer,
    responses={200: {"content": {"*/*": {}}}, 206: {"description": "The part that `Range` asked for."}},
)
async def get_file(job_id: str, name: str, parts: ServicesDep) -> Response:
    """A result of a job. `Range` works, so a player can seek."""
    await parts.jobs.get(job_id)
    return _file(await asyncio.to_thread(parts.jobs.folder(job_id).find, name), Path(name).name)


@router.head("/{job_id}/files.zip", include_in_schema=False)
@router.get(
    "/{job_id}/files.zip",
    # Of the base class: FastAPI reads the status of its constructor, which `ZipResponse` does not take.
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}}},
)
async def get_bundle(job_id: str, parts: ServicesDep) -> Response:
    """All results of a job as one archive, made while it is sent. 409 until the job is done."""
    job = await parts.jobs.get(job_id)
    files = await asyncio.to_thread(bundle.entries, job, parts.jobs.folder(job_id))
    return bundle.ZipResponse(bundle.stream(files), {"Content-Disposition": disposition(bundle.title(job))})


@router.head("/{job_id}/inputs/{number}", include_in_schema=False)
@router.get("/{job_id}/inputs/{number}", response_class=FileAnswer, responses={200: {"content": {"*/*": {}}}})
async def get_input(job_id: str, number: int, parts: ServicesDep) -> Response:
    """The n-th file (from 0) that was uploaded for a job, as it came."""
    job = await parts.jobs.get(job_id)
    if not 0 <= number < len(job.inputs) or job.state == "cancelled":
        raise FileUnknown(f"job {job_id} has no uploaded file {number}")
    return _file(parts.jobs.folder(job_id).input / job.inputs[number].file, job.inputs[number].name)


@router.get("/{job_id}/timeline", response_model=Timeline)
async def get_timeline(job_id: str, parts: ServicesDep) -> Any:
    """Who is in the job's video when."""
    await parts.jobs.get(job_id)
    path = await asyncio.to_thread(parts.jobs.folder(job_id).find, SIDECAR)
    return Timeline.of(await asyncio.to_thread(presences, path))


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except (ValueError, RecursionError) as exc:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {exc}") from exc


def _said(fields: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    """Fields with something in them: a form sends empty ones for what was left out."""
    kept = [(key, [value for value in values if value.strip()]) for key, values in fields.items()]
    return [(key, values) for key, values in kept if values]


def _spec(values: Any) -> JobSpec:
    try:
        return JobSpec.model_validate(values)
    except ValidationError as exc:
        raise RequestValidationError([{**error, "loc": ("body", *error["loc"])} for error in exc.errors()]) from exc


async def _check_members(spec: JobSpec, parts: Services) -> None:
    """Raises `MemberUnknown` before a long job is queued that would only fail."""
    for name in spec.member:
        await asyncio.to_thread(parts.gallery.member, name)


def _file(path: Path, name: str) -> Response:
    media_type = _media_type(name)
    known = media_type is not None
    return FileAnswer(
        path,
        media_type=media_type or "application/octet-stream",
        filename=name,
        kind="inline" if known else "attachment",
        headers={"X-Content-Type-Options": "nosniff"},
    )


def _media_type(name: str) -> str | None:
    return MEDIA_TYPES.get(Path(name).suffix.lower())


def _info(job: Job, request: Request, jobs: Jobs) -> JobInfo:
    base = _path(request, job.id)
    progress = jobs.progress(job)
    files = [
        FileInfo(
            name=output.name,
            bytes=output.bytes,
            media_type=_media_type(output.name) or "application/octet-stream",
            url=f"{base}/files/{quote(output.name)}",
        )
        for output in job.outputs
    ]
    urls = {file.name: file.url for file in files}
    return JobInfo(
        id=job.id,
        kind=job.kind,
        state=job.state,
        cancelling=jobs.cancelling(job),
        reason=job.reason,
        spec=job.spec,
        inputs=_inputs(job, base, request),
        created_at=_time(job.created_at),
        started_at=None if job.started_at is None else _time(job.started_at),
        finished_at=None if job.finished_at is None else _time(job.finished_at),
        progress=None
        if progress is None
        else ProgressInfo(
            done=progress.done,
            total=progress.total,
            fps=progress.fps,
            eta_seconds=progress.eta_seconds,
            stage=progress.stage,
        ),
        result=job.result,
        files=files,
        poster_url=urls.get(POSTER),
        timeline_url=f"{base}/timeline" if SIDECAR in urls else None,
        zip_url=f"{base}/files.zip" if files else None,
    )


def _inputs(job: Job, base: str, request: Request) -> list[InputInfo]:
    root = str(request.scope.get("root_path", ""))
    if "recording" in job.spec:
        name = str(job.spec["recording"])
        url = f"{root}/api/recordings/{quote(name)}"
        return [InputInfo(name=name, bytes=None, media_type="video/mp4", url=url)]
    if "job" in job.spec:
        return [InputInfo(name=str(job.spec["job"]), bytes=None, media_type=None, url=None)]
    gone = job.state == "cancelled"
    return [
        InputInfo(
            name=given.name,
            bytes=given.bytes,
            media_type=_media_type(given.name),
            url=None if gone else f"{base}/inputs/{number}",
        )
        for number, given in enumerate(job.inputs)
    ]


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _path(request: Request, job_id: str) -> str:
    return f"{request.scope.get('root_path', '')}/api/jobs/{quote(job_id, safe='')}"
