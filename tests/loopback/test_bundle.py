"""All results of a job as one archive, over a real connection."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import httpx
import psutil
import pytest
import uvicorn

from streamer.jobs.folder import JobFolder
from streamer.jobs.job import Input, Job, Output
from streamer.jobs.runner import Jobs
from streamer.service import app as composition
from streamer.service import bundle
from streamer.service.app import create_app
from streamer.service.run import listen
from streamer.service.settings import load
from tests.loopback.test_jobs import MODULE, Running, check_problem, service


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The service starts the tests' program instead of `streamer`."""
    monkeypatch.setattr(composition, "Jobs", lambda *args: Jobs(*args, module=MODULE))
    return


async def photos(running: Running, *names: str) -> str:
    """A finished job of photos of those names, each of which holds its name."""
    orders = [json.dumps({"steps": 1, "name": name}).encode() for name in names]
    files = [("file", (name, content, "image/jpeg")) for name, content in zip(names, orders, strict=True)]
    answer = await running.client.post("/api/jobs", data={"kind": "image", "member": "rei"}, files=files)
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["id"]
    await running.until(job_id, "done")
    return job_id


def opened(answer: httpx.Response) -> zipfile.ZipFile:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    return archive


async def test_all_results_come_in_folders_called_like_the_photos(data_dir: Path) -> None:
    async with service(data_dir) as running:
        job_id = await photos(running, "one.jpg", "two.png")
        job = (await running.client.get(f"/api/jobs/{job_id}")).json()
        answer = await running.client.get(job["zip_url"])
        assert answer.headers["content-disposition"] == f'attachment; filename="rei_{job_id}.zip"'
        head = await running.client.head(job["zip_url"])
        assert (head.status_code, head.content) == (200, b"")
        assert dict(head.headers) == dict(answer.headers)
        with opened(answer) as archive:
            assert set(archive.namelist()) == {"annotated.png", "one/cutout.png", "two/cutout.png"}
            assert json.loads(archive.read("two/cutout.png"))["name"] == "two.png"
            assert archive.infolist()[0].external_attr >> 16 == 0o644


async def test_odd_names_unpack_everywhere_and_nowhere_else(data_dir: Path, tmp_path: Path) -> None:
    names = ["사진 1.jpg", "사진 1.png", "SAME.jpg", "same.jpg", "...jpg", "a:b*c?.jpg", "nul.jpg", "x" * 180 + ".jpg"]
    async with service(data_dir) as running:
        job_id = await photos(running, *names, "../../up.jpg", r"C:\Users\me\trip.jpg", "trailing. .jpg")
        with opened(await running.client.get(f"/api/jobs/{job_id}/files.zip")) as archive:
            folders = {name.partition("/")[0] for name in archive.namelist() if "/" in name}
            archive.extractall(tmp_path / "unpacked")
        assert folders == {
            *("사진 1", "사진 1 (2)", "SAME", "same (2)", "photo", "a_b_c_", "_nul", "x" * 100),
            *("up", "trip", "trailing"),
        }
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "unpacked"]


async def test_a_video_and_its_results_in_one_archive(data_dir: Path) -> None:
    async with service(data_dir) as running:
        made = await running.video()
        job = await running.until(made["id"], "done")
        answer = await running.client.get(job["zip_url"])
        assert answer.headers["content-disposition"] == 'attachment; filename="stage 1.zip"'
        with opened(answer) as archive:
            assert set(archive.namelist()) == {"video.mp4", "results.jsonl"}


async def test_without_results_there_is_no_archive(data_dir: Path) -> None:
    async with service(data_dir) as running:
        made = await running.video(steps=1000)
        assert made["zip_url"] is None
        assert (await running.client.head(f"/api/jobs/{made['id']}/files.zip")).status_code == 409
        check_problem(await running.client.get(f"/api/jobs/{made['id']}/files.zip"), 409, "once it is done")
        await running.client.post(f"/api/jobs/{made['id']}/cancel")
        check_problem(await running.client.get("/api/jobs/0123/files.zip"), 404, "no job")
        job_id = await photos(running, "one.jpg")
        os.remove(data_dir / "jobs" / job_id / "output" / "annotated.png")
        missing = await running.client.get(f"/api/jobs/{job_id}/files.zip")
        check_problem(missing, 404, "annotated.png")
        assert missing.json()["type"] == "urn:streamer:problem:file-unknown"


async def test_the_archive_needs_the_token(data_dir: Path) -> None:
    app = create_app(load(None, {"data_dir": data_dir, "vision": {"engine": "none"}, "token": "correct-horse"}))
    bearer = {"Authorization": "Bearer correct-horse"}
    async with app.router.lifespan_context(app):
        app.state.services.gallery.add_member("rei")
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            client.headers.update(bearer)
            job_id = await photos(Running(client, app.state.services.jobs, data_dir), "one.jpg", "two.jpg")
            path = f"/api/jobs/{job_id}/files.zip"
            (link,) = (await client.post("/api/links", json={"paths": [path]})).json()["links"]
            opened(await client.get(path)).close()
            del client.headers["Authorization"]
            assert (await client.get(path)).status_code == 401
            assert (await client.head(path)).status_code == 401
            assert (await client.head(link)).status_code == 200
            opened(await client.get(link)).close()


# By itself


def test_an_archive_of_many_photos_begins_at_once(tmp_path: Path) -> None:
    folder, inputs, outputs = JobFolder(tmp_path), [], []
    for number in range(200):
        inputs.append(Input(f"{number}-x.jpg", f"photo {number}.jpg", 1))
        (folder.output / f"{number}-x").mkdir(parents=True)
        for name in ("annotated.png", "overlay.png", "cutout.png", "result.json"):
            outputs.append(Output(f"{number}-x/{name}", 1))
            (folder.output / outputs[-1].name).write_bytes(b"x")
    job = Job("1", "image", {}, tuple(inputs), "done", 0.0, outputs=tuple(outputs))
    began = time.monotonic()
    assert len(bundle.entries(job, folder)) == 800
    assert time.monotonic() - began < 2


LARGE = 48_000_000


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(1_000_000) * (LARGE // 1_000_000))
    return path


def test_nothing_is_held_but_a_piece(large: Path) -> None:
    tracemalloc.start()
    try:
        sizes = [len(piece) for piece in bundle.stream([("a.bin", large), ("b.bin", large)])]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(sizes) > 2 * LARGE
    assert peak < 8 * bundle.CHUNK_BYTES


def test_an_archive_above_four_gigabytes_is_declared_as_such(tmp_path: Path) -> None:
    """The sizes of the 32-bit format end there. A hole takes no room on disk."""
    path = tmp_path / "hole.bin"
    with path.open("wb") as file:
        file.truncate(5_000_000_000)
    first = next(bundle.stream([("hole.bin", path)]))
    version = int.from_bytes(first[4:6], "little")
    assert (first[:4], version) == (b"PK\x03\x04", zipfile.ZIP64_VERSION)


def test_a_file_that_goes_meanwhile_leaves_no_archive_that_looks_whole(large: Path, tmp_path: Path) -> None:
    pieces = bundle.stream([("a.bin", large), ("b.bin", tmp_path / "gone.bin")])
    taken: list[bytes] = []
    with pytest.raises(FileNotFoundError):
        taken.extend(pieces)
    assert sum(map(len, taken)) > LARGE
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(b"".join(taken)))


async def test_a_client_that_leaves_leaves_no_file_open(
    data_dir: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "entries", lambda job, folder: [("large.bin", large), ("again.bin", large)])
    app = create_app(load(None, {"data_dir": data_dir, "vision": {"engine": "none"}}))

    def open_now() -> bool:
        return str(large) in [file.path for file in psutil.Process().open_files()]

    with listen("127.0.0.1", 0) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", ws="none"))
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[bound]))
            while not server.started:
                await asyncio.sleep(0.01)
            app.state.services.gallery.add_member("rei")
            base = f"http://127.0.0.1:{bound.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
                job_id = await photos(Running(client, app.state.services.jobs, data_dir), "one.jpg")
                async with client.stream("GET", f"/api/jobs/{job_id}/files.zip") as answer:
                    await anext(answer.aiter_bytes())
                    assert open_now()
            async with asyncio.timeout(10):
                while open_now():
                    await asyncio.sleep(0.02)
            server.should_exit = True


async def test_the_event_loop_reads_no_file(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: set[int] = set()
    real = bundle.stream

    def watched(files: list[tuple[str, Path]]) -> Generator[bytes, None, None]:
        for piece in real(files):
            readers.add(threading.get_ident())
            yield piece

    monkeypatch.setattr(bundle, "stream", watched)
    async with service(data_dir) as running:
        job_id = await photos(running, "one.jpg", "two.jpg")
        opened(await running.client.get(f"/api/jobs/{job_id}/files.zip")).close()
    assert readers
    assert threading.get_ident() not in readers


def test_names_in_the_archive_are_those_of_the_photos() -> None:
    """Two photos of one name from two folders: each keeps a folder of its own."""
    job = Job(
        "1",
        "image",
        {},
        tuple(Input(f"000{n}-aa.jpg", name, 1) for n, name in enumerate(["IMG_1.jpg", "IMG_1.jpg", "IMG_1 (2).jpg"])),
        "done",
        0.0,
        outputs=(Output("0000-aa/a.png", 1), Output("0001-aa/a.png", 1), Output("0002-aa/a.png", 1)),
    )

    class Folder(JobFolder):
        def find_all(self, names: Sequence[str]) -> list[Path]:
            return [Path(name) for name in names]

    names = [name for name, _ in bundle.entries(job, Folder(Path()))]
    assert names == ["IMG_1/a.png", "IMG_1 (2)/a.png", "IMG_1 (2) (2)/a.png"]
