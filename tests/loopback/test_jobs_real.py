"""Jobs with the real commands and the real CPU engine: photos, a video, a re-render, a restart in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from streamer.service.app import create_app
from streamer.service.settings import load
from tests import media

pytestmark = pytest.mark.models

WAIT_SECONDS = 180.0
MEMBER = "eileen"


def portrait(side: int) -> Image.Image:
    return Image.fromarray(photos.astronaut()).resize((side, side), Image.Resampling.LANCZOS)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def stage(path: Path, frames: int, away: range = range(0)) -> Path:
    """A person who sways before a wall, 480x272 at 25 fps; nobody is there on the frames `away`."""
    person = portrait(272)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = 480, 272, "yuv420p"
        for number in range(frames):
            picture = Image.new("RGB", (480, 272), (70, 80, 95))
            if number not in away:
                picture.paste(person, (100 + round(30 * np.sin(number / 12)), 0))
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frame_count(video: bytes) -> int:
    with av.open(io.BytesIO(video)) as container:
        return sum(1 for _ in container.decode(video=0))


@contextlib.asynccontextmanager
async def service(data_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The service with the CPU engine, and somebody enrolled."""
    app = create_app(load(None, {"data_dir": data_dir, "jobs": {"priority": "normal"}}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=WAIT_SECONDS) as client:
            await app.state.services.vision.wait_ready()
            if not (await client.get("/api/members")).json():
                files = [("photos", ("eileen.png", encoded(portrait(512)), "image/png"))]
                enrolled = await client.post("/api/members", data={"name": MEMBER}, files=files)
                assert enrolled.status_code == 201, enrolled.text
            yield client


async def submit(client: httpx.AsyncClient, name: str, data: bytes, **fields: Any) -> str:
    answer = await client.post("/api/jobs", data={"member": MEMBER, **fields}, files=[("file", (name, data))])
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def until(client: httpx.AsyncClient, job_id: str, state: str, done: int = 0) -> dict[str, Any]:
    """The job once it is in that state and so far."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            job = dict((await client.get(f"/api/jobs/{job_id}")).json())
            if job["state"] == state and (job["progress"] or {"done": 0})["done"] >= done:
                return job
            assert job["state"] in ("queued", "running"), job
            await asyncio.sleep(0.05)


async def test_photos_become_three_pictures_and_a_result(model_data_dir: Path) -> None:
    async with service(model_data_dir) as client:
        job = await until(client, await submit(client, "Stage 1.png", encoded(portrait(400)), kind="image"), "done")
        assert {file["name"] for file in job["files"]} == {
            "annotated.png",
            "overlay.png",
            "cutout.png",
            "result.json",
            "poster.jpg",
        }
        urls = {file["name"]: file["url"] for file in job["files"]}
        (photo,) = job["result"]["photos"]
        assert (photo["file"], photo["seen"]) == ("Stage 1.png", True)
        cutout = Image.open(io.BytesIO((await client.get(urls["cutout.png"])).content))
        assert (cutout.mode, cutout.size) == ("RGBA", (400, 400))
        alpha = np.asarray(cutout)[..., 3]
        assert alpha[5, 5] == 0
        assert alpha[300, 180] == 255
        said = (await client.get(urls["result.json"])).json()
        assert [track["name"] for track in said["tracks"] if track["name"]] == [MEMBER]

        files = [("file", (f"{n}.jpg", encoded(portrait(300 + n), "JPEG"), "image/jpeg")) for n in (1, 2)]
        files.append(("file", ("notes.jpg", b"this is no picture", "image/jpeg")))
        files.append(("file", ("README.md", b"# nor is this", "text/markdown")))
        files.append(("file", ("no suffix", encoded(portrait(303)), "application/octet-stream")))
        answer = await client.post("/api/jobs", data={"kind": "image", "member": MEMBER}, files=files)
        job = await until(client, answer.json()["id"], "done")
        seen = {photo["file"]: photo["seen"] for photo in job["result"]["photos"]}
        assert seen == {"1.jpg": True, "2.jpg": True, "notes.jpg": False, "README.md": False, "no suffix": True}
        refused = {photo["file"]: photo["refused"] for photo in job["result"]["photos"] if photo["refused"]}
        assert set(refused) == {"notes.jpg", "README.md"}
        assert refused["README.md"].startswith("README.md: ")
        assert sum(file["name"].endswith("/cutout.png") for file in job["files"]) == 3
        text = json.dumps(job)
        assert str(model_data_dir) not in text


async def test_a_video_and_a_render_of_it(model_data_dir: Path, tmp_path: Path) -> None:
    clip = stage(tmp_path / "clip.mp4", 75, away=range(25, 50)).read_bytes()
    async with service(model_data_dir) as client:
        job_id = await submit(client, "clip.mp4", clip, kind="video", style="cutout", every="2")
        job = await until(client, job_id, "done")
        assert job["progress"]["done"] == 75
        assert job["result"]["seen"][MEMBER] > 30
        video = next(file for file in job["files"] if file["name"] == "video.mp4")
        assert frame_count((await client.get(video["url"])).content) == 75
        timeline = (await client.get(job["timeline_url"])).json()
        assert timeline["duration_seconds"] == pytest.approx(3.0, abs=0.05)
        (first, second) = next(person for person in timeline["people"] if person["name"] == MEMBER)["intervals"]
        assert (first[0], first[1]) == pytest.approx((0.0, 1.0), abs=0.3)
        assert (second[0], second[1]) == pytest.approx((2.0, 3.0), abs=0.3)
        assert (await client.get(job["poster_url"])).content.startswith(b"\xff\xd8")

        made = await client.post("/api/jobs", json={"kind": "render", "job": job_id, "style": "hide"})
        render = await until(client, made.json()["id"], "done")
        (video,) = (file for file in render["files"] if file["name"] == "video.mp4")
        assert frame_count((await client.get(video["url"])).content) == 75


async def test_a_file_that_is_no_video_is_said_by_its_own_name(model_data_dir: Path, tmp_path: Path) -> None:
    sound = media.audio_only(tmp_path / "song.mp4").read_bytes()
    async with service(model_data_dir) as client:
        job = await until(client, await submit(client, "My song.mp4", sound, kind="video"), "failed")
        assert "My song.mp4" in job["reason"]
        assert str(model_data_dir) not in job["reason"]
        assert job["files"] == []


async def test_a_restart_goes_on_where_the_video_was(model_data_dir: Path, tmp_path: Path) -> None:
    clip = stage(tmp_path / "clip.mp4", 250).read_bytes()
    async with service(model_data_dir) as client:
        job_id = await submit(client, "clip.mp4", clip, kind="video")
        await until(client, job_id, "running", done=20)
    async with service(model_data_dir) as client:
        job = await until(client, job_id, "done")
        assert job["result"]["resumed_frames"] >= 15
        assert job["result"]["frames"] == 250
        video = next(file for file in job["files"] if file["name"] == "video.mp4")
        assert frame_count((await client.get(video["url"])).content) == 250
        results = next(file for file in job["files"] if file["name"] == "results.jsonl")
        assert len((await client.get(results["url"])).text.splitlines()) == 250
        assert {file["name"] for file in job["files"]} == {"video.mp4", "results.jsonl", "poster.jpg"}
