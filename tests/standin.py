"""A small HTTP service with the API's shapes and no media behind it: what the dashboard's pages are tested against.

The pages talk real HTTP to it on a free port. The real service stands behind them in `tests/browser`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse

Json = dict[str, Any]

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63646068f80f0002860181"
    "d60b7e5a0000000049454e44ae426082"
)
"""A PNG of one pixel."""


LIMITS = {
    "photo_bytes": 25_000_000,
    "photos": 50,
    "photos_bytes": 67_108_864,
    "archive_bytes": 2_147_483_648,
    "job_photo_bytes": 300_000_000,
    "job_files": 200,
    "job_bytes": 4_000_000_000,
}


@dataclass
class StandIn:
    """The state that a test sets up and looks at."""

    streams: dict[str, Json] = field(default_factory=dict)
    members: dict[str, list[Json]] = field(default_factory=dict)
    about: dict[str, Json] = field(default_factory=dict)
    """What else is said of a member: group, display_name, notices, rejected."""
    stories: dict[int, Json] = field(default_factory=dict)
    """By track."""
    recordings: list[Json] = field(default_factory=list)
    jobs: list[Json] = field(default_factory=list)
    timelines: dict[str, Json] = field(default_factory=dict)
    """By the path that answers them."""
    limits: dict[str, int] = field(default_factory=lambda: dict(LIMITS))
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    """"METHOD /path" -> (status, detail) of the problem that answers it."""
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    """(method, path, JSON body or None) of every changing request."""
    base: str = ""

    def add_stream(self, stream_id: str, kind: str = "demo", **members: Any) -> Json:
        """A running stream with numbers."""
        info = stream_info(stream_id, {"kind": kind}) | members
        self.streams[stream_id] = info
        return info


def stream_info(stream_id: str, source: Json) -> Json:
    """What the API says about a stream that is live."""
    stages = {
        "decode": 4.0,
        "wait": 1.5,
        "identity": 61.0,
        "propagate": 22.0,
        "overlay": 1.8,
        "encode": 6.4,
        "total": 46.0,
    }
    return {
        "id": stream_id,
        "source": {**source, "state": {"phase": "live", "reason": None, "retry_in_seconds": None}},
        "member": None,
        "object": None,
        "style": "annotated",
        "created_at": "2026-11-22T10:15:00+00:00",
        "size": [1280, 720],
        "engine": "lite",
        "vision": {"state": "ready", "notice": None},
        "fps": {"in": 30.0, "vision": 21.5, "out": 21.5},
        "dropped": {"source": 12, "vision": 0, "encoder": 0, "viewers": 0},
        "viewers": 1,
        "latency_ms": {stage: {"p50": p50, "p95": p50 * 1.4} for stage, p50 in stages.items()},
        "tracks": [],
        "recording": None,
        "encoder": "libx264",
    }


def job_info(job_id: str, kind: str = "video", state: str = "done", **members: Any) -> Json:
    """What the API says about a job of an uploaded file."""
    name = {"image": "stage.jpg", "video": "stage.mp4", "render": "r1"}[kind]
    return {
        "id": job_id,
        "kind": kind,
        "state": state,
        "cancelling": False,
        "reason": None,
        "spec": {"kind": kind, "member": ["rei"]},
        "inputs": [{"name": name, "bytes": 7, "media_type": None, "url": f"/api/jobs/{job_id}/inputs/0"}],
        "progress": None,
        "result": None,
        "files": [],
        "poster_url": None,
        "timeline_url": None,
    } | members


def _problem(status: int, detail: str, **members: Any) -> Response:
    return JSONResponse({"status": status, "detail": detail, **members}, status, media_type="application/problem+json")


def _app(state: StandIn) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def note(request: Request, proceed: Any) -> Response:
        key = f"{request.method} {request.url.path}"
        if request.method != "GET":
            is_json = request.headers.get("content-type") == "application/json"
            state.calls.append((request.method, request.url.path, await request.json() if is_json else None))
        if key in state.refuse:
            return _problem(*state.refuse[key])
        return await proceed(request)

    @app.get("/healthz")
    def health() -> Json:
        return {"status": "ok", "limits": state.limits}

    _stream_routes(app, state)
    _member_routes(app, state)

    _job_routes(app, state)

    @app.get("/api/recordings")
    def recordings() -> list[Json]:
        return state.recordings

    @app.delete("/api/recordings/{recording_id}", status_code=204)
    def remove_recording(recording_id: str) -> None:
        state.recordings = [r for r in state.recordings if r["id"] != recording_id]

    return app


def _stream_routes(app: FastAPI, state: StandIn) -> None:
    @app.get("/api/streams")
    def streams() -> list[Json]:
        return list(state.streams.values())

    @app.post("/api/streams", status_code=201)
    def create(spec: Json) -> Json:
        info = stream_info(f"s{len(state.streams) + 1}", spec["source"])
        state.streams[info["id"]] = info
        return info

    @app.get("/api/streams/{stream_id}")
    def stream(stream_id: str) -> Any:
        return state.streams.get(stream_id) or _problem(404, f"no stream {stream_id}")

    @app.patch("/api/streams/{stream_id}")
    def update(stream_id: str, changes: Json) -> Json:
        state.streams[stream_id] |= changes
        return state.streams[stream_id]

    @app.delete("/api/streams/{stream_id}", status_code=204)
    def remove(stream_id: str) -> None:
        del state.streams[stream_id]

    @app.get("/api/streams/{stream_id}/tracks/{track}")
    def story(track: int) -> Any:
        return state.stories.get(track) or _problem(404, f"no track {track}")

    @app.post("/api/streams/{stream_id}/label", status_code=201)
    def label(body: Json) -> Json:
        return {"member": body.get("member"), "kept": [{}], "refused": [], "rejected": [], "withdrawn": 0}

    @app.post("/api/streams/{stream_id}/recording", status_code=201)
    def record(stream_id: str) -> Json:
        state.streams[stream_id]["recording"] = {
            "id": "r",
            "duration_seconds": 65.2,
            "bytes": 31e6,
            "ended_reason": None,
        }
        return state.streams[stream_id]["recording"]

    @app.delete("/api/streams/{stream_id}/recording")
    def stop(stream_id: str) -> Json:
        recording, state.streams[stream_id]["recording"] = state.streams[stream_id]["recording"], None
        return recording


def _job_routes(app: FastAPI, state: StandIn) -> None:
    @app.get("/api/jobs")
    def jobs() -> list[Json]:
        return state.jobs

    @app.post("/api/jobs", status_code=201)
    async def create(request: Request) -> Json:
        spec = await request.json()
        state.jobs.insert(0, job_info(f"j{len(state.jobs) + 1}", spec["kind"], "queued", spec=spec))
        return state.jobs[0]

    @app.get("/api/jobs/{job_id}")
    def job(job_id: str) -> Json:
        return next(job for job in state.jobs if job["id"] == job_id)

    @app.post("/api/jobs/{job_id}/{verb}", status_code=202)
    def act(job_id: str, verb: str) -> Json:
        found = job(job_id)
        found["state"] = {"cancel": "cancelled", "resume": "queued"}[verb]
        return found

    @app.delete("/api/jobs/{job_id}", status_code=204)
    def remove(job_id: str) -> None:
        state.jobs = [job for job in state.jobs if job["id"] != job_id]

    @app.get("/api/{path:path}/timeline")
    def timeline(path: str) -> Any:
        known = state.timelines.get(f"/api/{path}/timeline")
        return known if known is not None else _problem(404, "no sidecar")


def _member_routes(app: FastAPI, state: StandIn) -> None:
    @app.get("/api/members")
    def members() -> list[Json]:
        return [{"name": name, "photos": photos} | state.about.get(name, {}) for name, photos in state.members.items()]

    @app.patch("/api/members/{name}")
    def change(name: str, about: Json) -> Json:
        state.about[name] = state.about.get(name, {}) | about
        return {"name": name} | state.about[name]

    @app.delete("/api/members/{name}/{kind}/{entry}", status_code=204)
    def remove_entry(name: str, kind: str, entry: str) -> None:
        pass

    @app.post("/api/archive")
    def import_archive() -> Json:
        refused = {"file": "b.jpg", "reason": "b.jpg: no face was found"}
        return {"members": [{"name": "rei", "kept": [{"file": "a.jpg"}], "refused": [refused], "rejected": 0}]}

    @app.post("/api/members", status_code=201)
    async def add(name: Annotated[str, Form()], photos: list[UploadFile]) -> Any:
        return await enrol(name, photos)

    @app.post("/api/members/{name}/photos", status_code=201)
    async def add_photos(name: str, photos: list[UploadFile]) -> Any:
        return await enrol(name, photos)

    async def enrol(name: str, photos: list[UploadFile]) -> Any:
        good = [photo for photo in photos if (await photo.read()).startswith(b"\x89PNG")]
        kept = [{"file": photo.filename, "duplicate": False, "remark": None} for photo in good]
        refused = [
            {"file": photo.filename, "reason": f"{photo.filename}: no face was found; use a photo that shows the face"}
            for photo in photos
            if photo not in good
        ]
        if not kept:
            return _problem(422, "none was kept", refused=refused)
        stored = state.members.setdefault(name, [])
        stored += [{"thumbnail_url": f"/api/members/{name}/photos/{n}/thumbnail.jpg"} for n in range(len(kept))]
        return {"member": {"name": name}, "kept": kept, "refused": refused}

    @app.delete("/api/members/{name}", status_code=204)
    def remove(name: str) -> None:
        del state.members[name]

    @app.get("/api/members/{name}/photos/{number}/thumbnail.jpg")
    @app.get("/api/members/{name}/rejected/{number}/crop.jpg")
    def thumbnail(name: str, number: int) -> Response:
        return Response(PIXEL, media_type="image/png")


@contextlib.contextmanager
def running() -> Iterator[StandIn]:
    """The stand-in on a free port of 127.0.0.1, in a thread of its own; `base` is its address."""
    state = StandIn()
    server = uvicorn.Server(
        uvicorn.Config(
            _app(state), host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="off", ws="none"
        )
    )
    thread = threading.Thread(target=server.run, name="stand-in")
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the stand-in did not start")
            time.sleep(0.01)
        state.base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield state
    finally:
        server.should_exit = True
        thread.join(10)
