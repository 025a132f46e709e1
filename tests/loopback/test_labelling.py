"""A person's word on a running stream, with the real worker: it counts at once, and after a restart."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from skimage import data as skimage_data

from streamer.service.app import create_app
from streamer.service.services import Services
from streamer.service.settings import Settings, VisionSettings
from tests.clips import Shot, View, render, write_clip

pytestmark = pytest.mark.models

ASTRONAUT: np.ndarray = np.ascontiguousarray(skimage_data.astronaut()[..., ::-1])

PATIENCE_SECONDS = 180.0
SMALL_FACE = 60.0
"""Pixels of height; enrolment takes 40, and faces grow and shrink in the film."""


class Running:
    """A service with the demo playing."""

    def __init__(self, services: Services, http: httpx.AsyncClient, stream: str) -> None:
        self.services = services
        self.http = http
        self.stream = stream

    def tracks(self) -> list[dict[str, Any]]:
        """What is said of the picture now."""
        tracks: list[dict[str, Any]] = self.services.streams.get(self.stream).info()["tracks"]
        return tracks

    def track(self, name: str | None) -> int | None:
        """A track of that name that is seen now."""
        return next((track["id"] for track in self.tracks() if track["name"] == name and track["face"]), None)

    async def story(self, track: int) -> dict[str, Any]:
        answer = await self.http.get(f"/api/streams/{self.stream}/tracks/{track}")
        assert answer.status_code == 200, answer.text
        story: dict[str, Any] = answer.json()
        return story

    async def label(self, **body: Any) -> dict[str, Any]:
        answer = await self.http.post(f"/api/streams/{self.stream}/label", json=body)
        assert answer.status_code == 201, answer.text
        report: dict[str, Any] = answer.json()
        return report


@asynccontextmanager
async def playing(data_dir: Path, film: Path | None = None) -> AsyncIterator[Running]:
    """The demo, whose people it enrols; or `film`, with the astronaut enrolled as eileen."""
    # A busy machine is no hang; and the film's faces are large enough for a small detector.
    vision = VisionSettings(hang_seconds=60, detector_width=320, detector_height=192)
    app = create_app(Settings(data_dir=data_dir, vision=vision))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=PATIENCE_SECONDS) as http,
    ):
        source: dict[str, Any] = {"kind": "demo"}
        if film is not None:
            source = {"kind": "file", "path": str(film), "loop": True}
            await until(lambda: app.state.services.vision.state.phase == "ready")
            photo = ("photos", ("eileen.png", cv2.imencode(".png", ASTRONAUT)[1].tobytes(), "image/png"))
            enrolled = await http.post("/api/members", data={"name": "eileen"}, files=[photo])
            assert enrolled.status_code == 201, enrolled.text
        made = await http.post("/api/streams", json={"source": source})
        assert made.status_code == 201, made.text
        yield Running(app.state.services, http, made.json()["id"])


async def until(holds: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """What `holds` gives once it is true."""
    async with asyncio.timeout(seconds):
        while not (value := holds()):
            await asyncio.sleep(0.02)
        return value


async def names_until_she_is_back(service: Running) -> set[str]:
    """Names that are said until the person who was rejected has been seen on three frames of another track."""
    before = {track["id"] for track in service.tracks()}
    names: set[str] = set()
    frames = 0
    events = service.services.streams.get(service.stream).events()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while frames < 3:
            for track in json.loads(await anext(events))["tracks"]:
                names |= {track["name"]} - {None}
                is_she = track["id"] not in before and (track["similarity"] or 0.0) > 0.7 and track["name"] is None
                frames += is_she
    await events.aclose()
    return names


async def test_not_drops_the_name_at_once_and_for_good(model_data_dir: Path) -> None:
    async with playing(model_data_dir) as service:
        track = await until(lambda: service.track("eileen"))
        story = await service.story(track)
        assert story["name"] == "eileen"
        assert story["decisions"][-1]["name"] == "eileen"
        assert "similarity" in story["decisions"][-1]["reason"]
        assert {"eileen", "ben"} <= set(story["looks"][-1]["similarity"])
        assert max(story["looks"][-1]["similarity"], key=story["looks"][-1]["similarity"].get) == "eileen"
        with Image.open(io.BytesIO(base64.b64decode(story["faces"][0]["image"].partition(",")[2]))) as crop:
            x0, y0, x1, y1 = story["faces"][0]["face"]
            assert 0 <= x0 < x1 <= crop.width <= 320
            assert 0 <= y0 < y1 <= crop.height <= 320

        report = await service.label(**{"track": track, "not": "eileen"})
        said_at = time.monotonic()
        assert report["rejected"]
        await until(lambda: service.track("eileen") is None)
        print(f"name dropped {time.monotonic() - said_at:.3f} s after the answer")
        reasons = [made["reason"] for made in (await service.story(track))["decisions"]]
        assert reasons[-1] == "a person said that this is not eileen"
        # The film goes on: she comes back, as like her photo as before, and is not named.
        assert "eileen" not in await names_until_she_is_back(service)
        assert len((await service.http.get("/api/members/eileen")).json()["rejected"]) == len(report["rejected"])

    async with playing(model_data_dir) as service:
        assert "eileen" not in await names_until_she_is_back(service)


async def test_this_is_names_at_once_and_removal_leaves_nothing(model_data_dir: Path) -> None:
    async with playing(model_data_dir) as service:
        await until(lambda: service.track("eileen"))
        answer = await service.http.delete("/api/members/eileen")
        assert answer.status_code == 204
        gone_at = time.monotonic()
        await until(lambda: service.track("eileen") is None)
        print(f"name gone {time.monotonic() - gone_at:.3f} s after the answer")
        # Also of what vision remembers, and goes on to say on the frames that follow.
        events = service.services.streams.get(service.stream).events()
        lines = [await anext(events) for _ in range(12)]
        await events.aclose()
        assert not any(b"eileen" in line for line in lines[-4:])
        stories = [await service.story(track["id"]) for track in service.tracks()]
        assert "eileen" not in str(stories)

        # Somebody unknown is given a name from what is seen of her.
        def unknown() -> int | None:
            large = (
                track["id"]
                for track in service.tracks()
                if track["name"] is None and track["face"] and track["face"][3] - track["face"][1] > SMALL_FACE
            )
            return next(large, None)

        report: dict[str, Any] = {}
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not report:
                track = await until(unknown)
                answer = await service.http.post(
                    f"/api/streams/{service.stream}/label", json={"track": track, "member": "astro", "create": True}
                )
                # A face that was just found may not have been compared yet, or be too small: another one then.
                assert answer.status_code in (201, 409, 422), answer.text
                report = answer.json() if answer.status_code == 201 else {}
        said_at = time.monotonic()
        assert report["kept"]
        await until(lambda: service.track("astro"))
        print(f"named {time.monotonic() - said_at:.3f} s after the answer")
        photos = (await service.http.get("/api/members/astro")).json()["photos"]
        assert {photo["source"] for photo in photos} == {f"stream {service.stream}, track {track}"}
        assert (await service.http.get(photos[0]["thumbnail_url"])).status_code == 200

        folder = model_data_dir / "gallery"
        files = {path for kind in ("photos", "thumbnails") for path in (folder / kind).iterdir()}
        await service.http.delete("/api/members/astro")
        left = {path for kind in ("photos", "thumbnails") for path in (folder / kind).iterdir()}
        assert len(files - left) == 2 * len(photos)
        database = b"".join(path.read_bytes() for path in folder.glob("gallery.sqlite3*"))
        assert b"astro" not in database


async def test_a_stream_that_stands_still_forgets_a_removed_name_too(model_data_dir: Path, tmp_path: Path) -> None:
    # She is in every picture, and the last one is as the first: wherever it stands still, she is named.
    shot = Shot(ASTRONAUT, ("eileen",), 60, (View(0.45, 0.3, 0.8), View(0.47, 0.3, 0.8), View(0.45, 0.3, 0.8)))
    async with playing(model_data_dir, write_clip(tmp_path / "film.mp4", render([shot]))) as service:
        await until(lambda: service.track("eileen"))
        stream = service.services.streams.get(service.stream)
        stream.source.close()  # the camera is gone; the last result stays
        await until(lambda: stream.info()["fps"]["out"] == 0)
        assert [track["name"] for track in service.tracks()] == ["eileen"]
        assert (await service.http.delete("/api/members/eileen")).status_code == 204
        assert [track["name"] for track in service.tracks()] == [None]


async def test_labels_of_streams_and_tracks_that_are_not(model_data_dir: Path) -> None:
    async with playing(model_data_dir) as service:
        for stream, track in (("nothing", 1), (service.stream, 10**9)):
            label = await service.http.post(f"/api/streams/{stream}/label", json={"track": track, "not": "ben"})
            assert label.status_code == 404, label.text
            assert (await service.http.get(f"/api/streams/{stream}/tracks/{track}")).status_code == 404
