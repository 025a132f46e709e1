"""The routes over real HTTP: the real service on a free port, engine `none`, a small file as the source."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import uvicorn

from streamer.contract import VERSION
from streamer.service import events
from streamer.service.app import create_app
from streamer.service.run import listen
from streamer.service.settings import Settings, load
from tests import media

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAIT_SECONDS = 10.0


class Service:
    """A running service and a client of it."""

    def __init__(self, client: httpx.AsyncClient, settings: Settings, clip: Path) -> None:
        self.client = client
        self.settings = settings
        self.clip = clip

    async def stream(self, **more: Any) -> dict[str, Any]:
        """A live stream of the clip."""
        spec = {"source": {"kind": "file", "path": str(self.clip), "loop": True}, **more}
        response = await self.client.post("/api/streams", json=spec)
        assert response.status_code == 201, response.text
        return dict(response.json())

    async def until(self, stream_id: str, **wanted: Any) -> dict[str, Any]:
        """The stream's info once its frames have a size."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                info = dict((await self.client.get(f"/api/streams/{stream_id}")).json())
                if info["size"] is not None and all(info[key] == value for key, value in wanted.items()):
                    return info
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One service for this file: starting one takes longer than most of these tests."""
    folder = tmp_path_factory.mktemp("service")
    clip = media.video(folder / "clip.mp4")
    settings = load(None, {"data_dir": folder / "data", "vision": {"engine": "none"}, "service": {"max_streams": 2}})
    app = create_app(settings)
    with listen("127.0.0.1", 0) as bound:
        config = uvicorn.Config(app, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        base = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[bound]))
            while not server.started:
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=WAIT_SECONDS) as client:
                yield Service(client, settings, clip)
            events.closing(app).set()
            server.should_exit = True


@pytest_asyncio.fixture(loop_scope="module")
async def service(running: Service) -> AsyncIterator[Service]:
    """The service, without a stream before the test and after it."""
    yield running
    for stream in (await running.client.get("/api/streams")).json():
        await running.client.delete(f"/api/streams/{stream['id']}")


def check_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    detail = response.json()["detail"]
    assert "\n" not in detail
    for word in words:
        assert word in detail


async def test_a_stream_is_made_found_changed_and_removed(service: Service) -> None:
    client = service.client
    response = await client.post(
        "/api/streams", json={"source": {"kind": "file", "path": str(service.clip), "loop": True}}
    )
    assert response.status_code == 201
    made = response.json()
    assert response.headers["location"] == f"/api/streams/{made['id']}"
    assert made["source"]["kind"] == "file"
    assert made["style"] == "annotated"

    info = await service.until(made["id"])
    assert info["size"] == [320, 180]
    assert info["source"]["state"]["phase"] == "live"
    assert [entry["id"] for entry in (await client.get("/api/streams")).json()] == [made["id"]]

    changed = await client.patch(f"/api/streams/{made['id']}", json={"style": "cutout"})
    assert changed.status_code == 200
    assert changed.json()["style"] == "cutout"
    assert changed.json()["member"] is None

    assert (await client.delete(f"/api/streams/{made['id']}")).status_code == 204
    check_problem(await client.get(f"/api/streams/{made['id']}"), 404, made["id"])
    check_problem(await client.delete(f"/api/streams/{made['id']}"), 404)
    assert (await client.get("/api/streams")).json() == []


@pytest.mark.parametrize(
    ("spec", "status", "word"),
    [
        ({}, 422, "source"),
        ({"source": {"kind": "telepathy"}}, 422, "source.kind"),
        ({"source": {"kind": "rtsp"}}, 422, "url"),
        ({"source": {"kind": "rtsp", "url": "http://camera/"}}, 422, "rtsp"),
        ({"source": {"kind": "rtsp", "url": "file:///etc/passwd"}}, 422, "rtsp"),
        ({"source": {"kind": "rtsp", "url": "rtsp://"}}, 422, "rtsp"),
        ({"source": {"kind": "rtsp", "url": "rtsp://c/1", "transport": "carrier"}}, 422, "transport"),
        ({"source": {"kind": "file"}}, 422, "path"),
        ({"source": {"kind": "file", "path": "/no/such.mp4"}}, 422, "/no/such.mp4"),
        ({"source": {"kind": "file", "path": "relative.mp4"}}, 422, "absolute"),
        ({"source": {"kind": "demo", "url": "rtsp://c/1"}}, 422, "demo"),
        ({"source": {"kind": "whip"}, "style": "sparkly"}, 422, "style"),
        ({"source": {"kind": "whip"}, "styel": "none"}, 422, "styel"),
        ({"source": {"kind": "whip"}, "member": "x" * 101}, 422, "member"),
        ({"source": {"kind": "whip"}, "member": "nobody"}, 404, "nobody"),
        ({"source": {"kind": "whip"}, "object": "shirt"}, 422, "shirt"),
    ],
)
async def test_what_cannot_be_a_stream_is_refused_by_name(
    service: Service, spec: dict[str, Any], status: int, word: str
) -> None:
    check_problem(await service.client.post("/api/streams", json=spec), status, word)
    assert (await service.client.get("/api/streams")).json() == []


async def test_an_empty_file_is_refused(service: Service, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    spec = {"source": {"kind": "file", "path": str(empty)}}
    check_problem(await service.client.post("/api/streams", json=spec), 422, "empty")


async def test_a_cameras_password_is_nowhere(service: Service) -> None:
    """Port 9 of loopback: nobody answers, so the source says why, with its URL."""
    url = "rtsp://admin:hunter2@127.0.0.1:9/live?token=s3cret"
    made = await service.client.post("/api/streams", json={"source": {"kind": "rtsp", "url": url}})
    assert made.status_code == 201
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            info = await service.client.get(f"/api/streams/{made.json()['id']}")
            if info.json()["source"]["state"]["reason"]:
                break
            await asyncio.sleep(0.05)
    metrics = await service.client.get("/metrics")
    for text in (made.text, info.text, metrics.text):
        assert "hunter2" not in text
        assert "s3cret" not in text


async def test_blank_text_means_nobody_in_particular(service: Service) -> None:
    info = await service.stream(member="  ", object="")
    assert info["member"] is None
    assert info["object"] is None


async def test_a_bad_change_changes_nothing(service: Service) -> None:
    made = await service.stream()
    address = f"/api/streams/{made['id']}"
    check_problem(await service.client.patch(address, json={"style": "hide", "member": "nobody"}), 404, "nobody")
    check_problem(await service.client.patch(address, json={"style": None}), 422, "style")
    check_problem(await service.client.patch(address, json={"source": {"kind": "demo"}}), 422, "source")
    assert (await service.client.get(address)).json()["style"] == "annotated"


async def test_the_limit_of_streams_is_said(service: Service) -> None:
    for _ in range(2):
        await service.client.post("/api/streams", json={"source": {"kind": "whip"}})
    response = await service.client.post("/api/streams", json={"source": {"kind": "whip"}})
    check_problem(response, 429, "max_streams")


async def test_events_are_one_line_a_frame(service: Service) -> None:
    made = await service.stream()
    frames: list[dict[str, Any]] = []
    async with service.client.stream("GET", f"/api/streams/{made['id']}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                frames.append(json.loads(line.removeprefix("data: ")))
            if len(frames) == 5:
                break
    assert all(frame["v"] == VERSION and frame["size"] == [320, 180] for frame in frames)
    numbers = [frame["frame"] for frame in frames]
    assert numbers == sorted(set(numbers))


async def test_events_end_with_the_stream(service: Service) -> None:
    made = await service.stream()
    async with (
        asyncio.timeout(WAIT_SECONDS),
        service.client.stream("GET", f"/api/streams/{made['id']}/events") as response,
    ):
        lines = response.aiter_lines()
        await anext(lines)
        assert (await service.client.delete(f"/api/streams/{made['id']}")).status_code == 204
        async for _ in lines:
            pass


async def test_a_snapshot_is_a_jpeg_once_there_is_a_picture(service: Service) -> None:
    waiting = await service.client.post("/api/streams", json={"source": {"kind": "whip"}})
    early = await service.client.get(f"/api/streams/{waiting.json()['id']}/snapshot.jpg")
    check_problem(early, 503)
    assert int(early.headers["retry-after"]) > 0

    made = await service.stream()
    await service.until(made["id"])
    async with asyncio.timeout(WAIT_SECONDS):
        while (picture := await service.client.get(f"/api/streams/{made['id']}/snapshot.jpg")).status_code == 503:
            await asyncio.sleep(0.05)
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content.startswith(b"\xff\xd8")


@pytest.mark.parametrize("way", ["whip", "whep"])
async def test_offers_are_checked(service: Service, way: str) -> None:
    client = service.client
    made = (await client.post("/api/streams", json={"source": {"kind": "whip"}})).json()
    address = f"/api/streams/{made['id']}/{way}"
    sdp = {"Content-Type": "application/sdp"}
    check_problem(await client.post(address, content="v=0", headers={"Content-Type": "text/plain"}), 415, "sdp")
    check_problem(await client.post(address, content="v=0"), 415)
    check_problem(await client.post(address, content="", headers=sdp), 400, "empty")
    check_problem(await client.post(address, content="not an offer", headers=sdp), 400)
    check_problem(await client.post(address, content=b"\xff\xfe\x00", headers=sdp), 400)
    check_problem(await client.post(address, content="v=0\r\n" * 20_000, headers=sdp), 413)
    check_problem(await client.post(f"/api/streams/gone/{way}", content="v=0", headers=sdp), 404, "gone")


@pytest.mark.parametrize("way", ["whip", "whep"])
async def test_a_session_can_only_be_ended(service: Service, way: str) -> None:
    made = await service.stream()
    address = f"/api/streams/{made['id']}/{way}"
    check_problem(await service.client.delete(f"{address}/nothing"), 404, "nothing")
    trickle = await service.client.patch(f"{address}/nothing", content="a=candidate:1")
    check_problem(trickle, 405)
    assert trickle.headers["allow"] == "DELETE, OPTIONS"
    assert (await service.client.put("/api/streams")).headers["allow"] == "GET, POST"
    options = await service.client.options(address)
    assert options.status_code == 204
    assert options.headers["accept-post"] == "application/sdp"


async def test_publishing_to_a_stream_that_reads_elsewhere_is_a_conflict(service: Service) -> None:
    made = await service.stream()
    response = await service.client.post(
        f"/api/streams/{made['id']}/whip", content="v=0\r\n", headers={"Content-Type": "application/sdp"}
    )
    check_problem(response, 409, "whip")


async def test_a_recording_is_made_played_in_parts_and_deleted(service: Service) -> None:
    client = service.client
    made = await service.stream()
    await service.until(made["id"])
    started = await client.post(f"/api/streams/{made['id']}/recording")
    assert started.status_code == 201
    check_problem(await client.post(f"/api/streams/{made['id']}/recording"), 409)
    address = started.headers["location"]

    async with asyncio.timeout(WAIT_SECONDS):
        while (await service.until(made["id"]))["recording"]["frames"] < 10:
            await asyncio.sleep(0.05)
    check_problem(await client.delete(address), 409, "stop")
    stopped = await client.delete(f"/api/streams/{made['id']}/recording")
    assert stopped.status_code == 200
    assert address.endswith(stopped.json()["id"])
    check_problem(await client.delete(f"/api/streams/{made['id']}/recording"), 404)

    (listed,) = (await client.get("/api/recordings")).json()
    assert listed["url"] == address
    assert listed["running"] is False
    whole = await client.get(address)
    assert whole.headers["content-type"] == "video/mp4"
    assert len(whole.content) == listed["bytes"]
    part = await client.get(address, headers={"Range": "bytes=4-11"})
    assert part.status_code == 206
    assert part.content == whole.content[4:12]
    assert part.content.startswith(b"ftyp")
    head = await client.head(address)
    assert head.status_code == 200
    assert int(head.headers["content-length"]) == len(whole.content)
    for file in (address, f"{address}/sidecar"):
        check_problem(await client.get(file, headers={"Range": "bytes=99999999-"}), 416, "bytes=99999999-")
        assert (await client.get(file, headers={"Range": "lines=1-2"})).status_code == 200
    sidecar = await client.get(f"{address}/sidecar")
    assert all(json.loads(line)["v"] == VERSION for line in sidecar.text.splitlines())

    assert (await client.delete(address)).status_code == 204
    check_problem(await client.get(address), 404)
    assert (await client.get("/api/recordings")).json() == []


async def test_what_is_not_there_is_named_by_what_it_is(service: Service) -> None:
    made = await service.stream()
    stream = f"/api/streams/{made['id']}"
    service.settings.data_folder.joinpath("recordings").mkdir(exist_ok=True)
    media.video(service.settings.data_folder / "recordings" / "without.mp4")
    for method, path, kind in (
        ("GET", "/api/streams/x", "stream-unknown"),
        ("DELETE", f"{stream}/recording", "recording-unknown"),
        ("DELETE", f"{stream}/whep/x", "session-unknown"),
        ("GET", "/api/recordings/x", "recording-unknown"),
        ("DELETE", "/api/recordings/x", "recording-unknown"),
        ("GET", "/api/recordings/without/timeline", "recording-unknown"),
        ("GET", "/api/recordings/without/sidecar", "recording-unknown"),
        ("GET", "/api/jobs/x", "job-unknown"),
        ("GET", "/api/members/x", "member-unknown"),
    ):
        answer = await service.client.request(method, path)
        check_problem(answer, 404)
        assert answer.json()["type"] == f"urn:streamer:problem:{kind}", path
    (service.settings.data_folder / "recordings" / "without.mp4").unlink()


@pytest.mark.parametrize(
    "name", ["nothing", "..", "%2e%2e", "..%2fgallery", "%2fetc%2fpasswd", ".hidden", "a%00b", "x" * 300]
)
async def test_a_recordings_name_leads_nowhere_else(service: Service, name: str) -> None:
    (service.settings.data_folder / "secret.mp4").write_bytes(b"x")
    for suffix in ("", "/sidecar"):
        assert (await service.client.get(f"/api/recordings/{name}{suffix}")).status_code == 404
    assert (await service.client.delete(f"/api/recordings/{name}")).status_code in (404, 405)


async def test_health_and_metrics(service: Service) -> None:
    client = service.client
    health = (await client.get("/healthz")).json()
    assert health["status"] == "ok"
    assert health["limits"]["job_bytes"] == service.settings.jobs.max_upload_bytes
    assert health["limits"]["photo_bytes"] < health["limits"]["photos_bytes"] < health["limits"]["archive_bytes"]
    assert (await client.get("/readyz")).json() == {"ready": True, "reasons": [], "engine": "none"}
    made = await service.stream()
    await service.until(made["id"])
    text = (await client.get("/metrics")).text
    assert f'streamer_stream_live{{kind="file",stream="{made["id"]}"}} 1.0' in text
    assert 'stage="decode"' in text
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert all(name.startswith("streamer_") for name in names)
    await client.delete(f"/api/streams/{made['id']}")
    assert made["id"] not in (await client.get("/metrics")).text


async def test_the_description_is_complete_and_offline(service: Service) -> None:
    page = await service.client.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert asset in page.text
        assert (await service.client.get(f"/docs/assets/{asset}")).status_code == 200
    paths = (await service.client.get("/openapi.json")).json()["paths"]
    for path, methods in {
        "/api/streams": ("get", "post"),
        "/api/streams/{stream_id}": ("get", "patch", "delete"),
        "/api/streams/{stream_id}/whip": ("post",),
        "/api/streams/{stream_id}/whep": ("post",),
        "/api/streams/{stream_id}/events": ("get",),
        "/api/streams/{stream_id}/snapshot.jpg": ("get",),
        "/api/streams/{stream_id}/recording": ("post", "delete"),
        "/api/recordings": ("get",),
        "/api/recordings/{recording_id}": ("get", "delete"),
        "/api/jobs/{job_id}/files.zip": ("get",),
        "/api/links": ("post",),
        "/api/members": ("get", "post"),
        "/api/members/{name}": ("get", "delete"),
        "/api/members/{name}/photos": ("post",),
    }.items():
        assert set(methods) <= paths[path].keys()


# Event streams by themselves


async def numbers(count: int, pause: float = 0.0) -> AsyncIterator[bytes]:
    for n in range(count):
        await asyncio.sleep(pause)
        yield str(n).encode()


async def test_a_quiet_event_stream_is_kept_open_by_comments() -> None:
    text = b"".join([part async for part in events.lines(numbers(2, 0.05), asyncio.Event(), 0.01)])
    assert b": keep-alive\n\n" in text
    assert text.replace(b": keep-alive\n\n", b"") == b": open\n\ndata: 0\n\ndata: 1\n\n"


async def test_an_event_stream_ends_when_the_service_stops() -> None:
    stop = asyncio.Event()
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                await asyncio.Event().wait()
                yield b""
        finally:
            closed.set()

    asyncio.get_running_loop().call_later(0.02, stop.set)
    async with asyncio.timeout(WAIT_SECONDS):
        assert [part async for part in events.lines(endless(), stop)] == [b": open\n\n"]
    assert closed.is_set()


async def test_a_reader_that_leaves_ends_the_subscription() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    reader = events.lines(endless(), asyncio.Event())
    await anext(reader)
    await anext(reader)
    await reader.aclose()  # type: ignore[attr-defined]
    assert closed.is_set()
