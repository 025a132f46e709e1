"""A person's word on a track, the story of a track, groups and archives over HTTP, on a real gallery."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from streamer.service import archives, members, problems, tracks
from streamer.vision.gallery import Gallery
from streamer.vision.known import PhotoFace
from streamer.vision.levels import EMBEDDED_LEVELS
from streamer.vision.story import Decision, Look, SeenFace, TrackStory
from streamer.vision.templates import Templates
from tests.squares import MODEL, Squares, check_problem, parts, picture

RED, LIME, BLUE = (np.array(colour, np.float32) for colour in ((0, 0, 1), (0, 1, 0), (1, 0, 0)))
"""Embeddings of the colours, blue first as in BGR."""
LABEL = "/api/streams/s1/label"


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Squares]:
    with Gallery(tmp_path / "gallery") as gallery:
        yield Squares(gallery)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """The routes, put together once; what they work on is each test's own."""
    app = FastAPI()
    for router in (members.router, members.groups_router, archives.router, tracks.router):
        app.include_router(router)
    problems.install(app)
    return app


@pytest.fixture
async def client(app: FastAPI, services: Squares) -> AsyncIterator[httpx.AsyncClient]:
    app.state.services = services
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as opened:
        yield opened


def seen(colour: str, embedding: np.ndarray, pts: float, side: int = 80, sharpness: float = 100.0) -> SeenFace:
    face = PhotoFace((40.0, 40.0, 40.0 + side, 40.0 + side), 0.9, embedding, sharpness, 0.1)
    return SeenFace(picture(colour, side=side), face, pts)


def story(track: int, *faces: SeenFace, name: str | None = None) -> TrackStory:
    looks = (Look(1.0, 0.5, {"rei": 0.4, "liz": 0.1}), Look(1.5, 0.9, {"rei": 0.62}))
    decisions = (Decision(1.5, name, "similarity 0.62, 0.40 ahead of liz"),) if name else ()
    return TrackStory(track, MODEL, name, faces, looks, decisions)


def names(services: Squares, embedding: np.ndarray) -> dict[str, float]:
    """What naming makes of a face now."""
    known = services.gallery.known(MODEL)
    return dict(zip(known.names, Templates(known, EMBEDDED_LEVELS).claims(embedding).round(2).tolist(), strict=True))


async def test_this_is_makes_photos_of_the_faces_seen(client: httpx.AsyncClient, services: Squares) -> None:
    services.stories["s1", 7] = story(
        7,
        seen("red", RED, 61.5),
        seen("red", RED, 3.25, side=60),
        seen("red", RED, 4.0, side=30),
        seen("lime", LIME, 5.0),
    )
    check_problem(await client.post(LABEL, json={"track": 7, "member": "rei"}), 404, "no member 'rei'")
    await client.post("/api/members", json={"name": "Rei"})
    answer = await client.post(LABEL, json={"track": 7, "member": "REI"})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["member"] == "Rei"
    assert [entry["file"] for entry in body["kept"]] == ["1m01.50s.jpg", "0m03.25s.jpg"]
    reasons = {entry["file"]: entry["reason"] for entry in body["refused"]}
    assert "30 pixels" in reasons["0m04.00s.jpg"]
    assert "does not look like the best face" in reasons["0m05.00s.jpg"]
    stored = services.gallery.member("rei").photos
    assert {photo.source for photo in stored} == {"stream s1, track 7"}
    assert services.pushed[-1].names == ("Rei",)
    assert names(services, RED) == {"Rei": 1.0}
    # The same word again changes nothing.
    again = (await client.post(LABEL, json={"track": 7, "member": "rei"})).json()
    assert all(entry["duplicate"] for entry in again["kept"])
    assert len(services.gallery.member("rei").photos) == 2


async def test_this_is_somebody_new(client: httpx.AsyncClient, services: Squares) -> None:
    services.stories["s1", 7] = story(7, seen("red", RED, 1.0))
    made = await client.post(LABEL, json={"track": 7, "member": "wonyoung", "create": True})
    assert made.status_code == 201
    assert len(services.gallery.member("wonyoung").photos) == 1
    services.stories["s1", 8] = story(8, seen("lime", LIME, 1.0, side=20))
    body = check_problem(
        await client.post(LABEL, json={"track": 8, "member": "liz", "create": True}), 422, "track 8", "20 pixels"
    )
    assert body["refused"]
    check_problem(await client.get("/api/members/liz"), 404)
    check_problem(await client.post(LABEL, json={"track": 7, "member": "a/b", "create": True}), 422, "slash")


async def test_not_weighs_against_the_name_and_survives_a_restart(
    client: httpx.AsyncClient, services: Squares, tmp_path: Path
) -> None:
    await client.post("/api/members", data={"name": "rei"}, files=parts(("a.png", picture("red"))))
    alike = np.array([0.0, 0.6, 0.8], np.float32)
    assert names(services, alike)["rei"] > 0.75
    blurred = seen("red", RED, 0.5, sharpness=3.0)
    services.stories["s1", 7] = story(7, *(seen("red", alike, pts, side=60 + pts) for pts in range(4)), blurred)
    answer = await client.post(LABEL, json={"track": 7, "not": "REI"})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["member"], len(body["rejected"]), body["kept"]) == ("rei", 3, [])
    assert services.pushed[-1].rejected_owners.tolist() == [0, 0, 0]
    assert names(services, alike) == {"rei": -1.0}
    assert names(services, RED)["rei"] == 1.0, "the person herself is still known"
    with Gallery(tmp_path / "gallery") as reopened:
        assert Templates(reopened.known(MODEL), EMBEDDED_LEVELS).claims(alike).tolist() == [-1.0]

    listed = (await client.get("/api/members/rei")).json()["rejected"]
    assert [face["source"] for face in listed] == ["stream s1, track 7"] * 3
    crop = await client.get(listed[0]["crop_url"])
    with Image.open(io.BytesIO(crop.content)) as image:
        assert image.size == (200, 200)
    for face in listed:
        assert (await client.delete(f"/api/members/rei/rejected/{face['id']}")).status_code == 204
    check_problem(await client.get(listed[0]["crop_url"]), 404, "no rejected face")
    missing = await client.delete("/api/members/rei/rejected/nothing")
    check_problem(missing, 404)
    assert missing.json()["type"] == "urn:streamer:problem:photo-unknown"
    assert names(services, alike)["rei"] > 0.75
    assert list((tmp_path / "gallery" / "rejected").iterdir()) == []


async def test_the_newest_word_counts(client: httpx.AsyncClient, services: Squares) -> None:
    await client.post("/api/members", data={"name": "rei"}, files=parts(("a.png", picture("blue"))))
    services.stories["s1", 7] = story(7, seen("red", RED, 1.0))
    services.stories["s1", 8] = story(8, seen("lime", LIME, 1.0))
    for track in (7, 8):
        await client.post(LABEL, json={"track": track, "not": "rei"})
    body = (await client.post(LABEL, json={"track": 7, "member": "rei"})).json()
    assert body["withdrawn"] == 1, "what was said of track 8, another person, stays"
    assert len(services.gallery.member("rei").rejected) == 1
    assert names(services, RED)["rei"] > 0.8
    body = (await client.post(LABEL, json={"track": 7, "not": "rei"})).json()
    assert (body["withdrawn"], len(body["rejected"])) == (1, 1)
    assert [photo.file for photo in services.gallery.member("rei").photos] == ["a.png"]
    assert names(services, RED) == {"rei": -1.0}


async def test_labels_that_cannot_be(client: httpx.AsyncClient, services: Squares) -> None:
    await client.post("/api/members", json={"name": "rei"})
    services.stories["s1", 7] = story(7)
    for body in (
        {},
        {"track": 7},
        {"track": 7, "member": "rei", "not": "liz"},
        {"track": "x", "member": "rei"},
        {"track": 0, "member": "rei"},
        {"track": 2**70, "member": "rei"},
        {"track": 7, "member": ""},
        {"track": 7, "not": "rei", "create": True},
        {"track": 7, "not": "x" * 101},
    ):
        check_problem(await client.post(LABEL, json=body), 422)
    check_problem(await client.post(LABEL, json={"track": 7, "member": "rei"}), 409, "no face of track 7")
    check_problem(await client.post(LABEL, json={"track": 7, "not": "rei"}), 409, "no face of track 7")
    check_problem(await client.post(LABEL, json={"track": 9, "member": "rei"}), 404, "no track 9")
    check_problem(await client.post("/api/streams/other/label", json={"track": 7, "member": "rei"}), 404)
    services.stories["s1", 7] = story(7, seen("red", RED, 1.0))
    check_problem(await client.post(LABEL, json={"track": 7, "not": "nobody"}), 404, "no member 'nobody'")
    services.fails_after = 0
    check_problem(await client.post(LABEL, json={"track": 7, "member": "rei"}), 503)
    assert services.gallery.member("rei").photos == ()


async def test_two_people_label_at_once(client: httpx.AsyncClient, services: Squares) -> None:
    for track in range(1, 9):
        services.stories["s1", track] = story(track, seen("red", RED, track, side=50 + track))
    said = [client.post(LABEL, json={"track": track, "member": "rei", "create": True}) for track in range(1, 9)]
    assert {answer.status_code for answer in await asyncio.gather(*said)} == {201}
    assert len(services.gallery.member("rei").photos) == 8


async def test_the_story_of_a_track(client: httpx.AsyncClient, services: Squares) -> None:
    services.stories["s1", 7] = story(7, seen("red", RED, 1.5), name="rei")
    body = (await client.get("/api/streams/s1/tracks/7")).json()
    assert (body["track"], body["name"], body["model"]) == (7, "rei", MODEL)
    (face,) = body["faces"]
    kind, _, data = face["image"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(data) == picture("red")
    assert face["face"] == [40, 40, 120, 120]
    assert [look["similarity"] for look in body["looks"]] == [{"rei": 0.4, "liz": 0.1}, {"rei": 0.62}]
    assert body["decisions"] == [{"pts": 1.5, "name": "rei", "reason": "similarity 0.62, 0.40 ahead of liz"}]
    missing = await client.get("/api/streams/s1/tracks/9")
    check_problem(missing, 404, "no track 9")
    assert missing.json()["type"] == "urn:streamer:problem:track-unknown"
    check_problem(await client.get("/api/streams/s1/tracks/x"), 422)


async def test_groups_and_changes_of_a_member(client: httpx.AsyncClient) -> None:
    for name, group in (("rei", "IVE"), ("liz", "ive"), ("ada", None), ("hyewon", "IZ*ONE")):
        await client.post("/api/members", json={"name": name, "group": group})
    groups = {entry["name"]: entry["members"] for entry in (await client.get("/api/groups")).json()}
    assert groups == {"IVE": ["liz", "rei"], "IZ*ONE": ["hyewon"]}
    changed = await client.patch("/api/members/ADA", json={"group": "IZ*one", "display_name": "Ada ♥", "consent": "ok"})
    assert changed.status_code == 200
    body = changed.json()
    assert (body["group"], body["display_name"], body["consent"]) == ("IZ*ONE", "Ada ♥", "ok")
    body = (await client.patch("/api/members/ada", json={"group": None, "display_name": None})).json()
    assert (body["group"], body["display_name"], body["consent"]) == (None, "ada", "ok")
    assert (await client.patch("/api/members/ada", json={})).json() == body
    check_problem(await client.patch("/api/members/ada", json={"name": "eve"}), 422)
    check_problem(await client.patch("/api/members/ada", json={"group": ""}), 422)
    check_problem(await client.patch("/api/members/ada", json={"group": "a\nb"}), 422, "U+000A")
    check_problem(await client.patch("/api/members/ada", json={"display_name": "x" * 101}), 422)
    check_problem(await client.patch("/api/members/eve", json={"group": "IVE"}), 404)


async def test_members_say_what_there_is_to_say(client: httpx.AsyncClient) -> None:
    for name, colour in (("rei", "red"), ("liz", "#f00008")):
        await client.post("/api/members", data={"name": name}, files=parts(("a.png", picture(colour))))
    listed = {entry["name"]: entry["notices"] for entry in (await client.get("/api/members")).json()}
    assert "can hardly be told apart" in listed["rei"][0]
    assert "buffalo_l" in listed["liz"][0]
    assert (await client.get("/api/members/rei")).json()["notices"] == listed["rei"]


async def test_an_archive_over_http(client: httpx.AsyncClient, services: Squares, tmp_path: Path) -> None:
    for name, colour, group in (("rei", "red", "IVE / 1"), ("ada", "lime", "")):
        await client.post("/api/members", data={"name": name, "group": group}, files=parts(("a.png", picture(colour))))
    whole = await client.get("/api/archive")
    assert whole.headers["content-type"] == "application/zip"
    assert whole.headers["content-disposition"] == 'attachment; filename="members.zip"'
    part = await client.get("/api/archive", params={"group": "ive / 1"})
    assert len(zipfile.ZipFile(io.BytesIO(part.content)).namelist()) == 2
    check_problem(await client.get("/api/archive", params={"group": "AOA"}), 422, "nobody is in the group 'AOA'")

    for name in ("rei", "ada"):
        await client.delete(f"/api/members/{name}")
    zip_type = {"content-type": "application/zip"}
    answer = await client.post("/api/archive", content=whole.content, headers=zip_type, params={"group": "Both"})
    assert answer.status_code == 200, answer.text
    assert [(entry["name"], len(entry["kept"])) for entry in answer.json()["members"]] == [("ada", 1), ("rei", 1)]
    assert services.pushed[-1].names == ("ada", "rei")
    assert {member.group for member in services.gallery.members()} == {"Both"}
    check_problem(await client.post("/api/archive", content=b"hello", headers=zip_type), 422, "not a zip archive")
    cut = whole.content[: len(whole.content) // 2]
    check_problem(await client.post("/api/archive", content=cut, headers=zip_type), 422, "cut short")
    check_problem(await client.post("/api/archive", content=whole.content), 415, "application/zip")
    wrong = await client.post("/api/archive", content=whole.content, headers=zip_type, params={"group": "a\nb"})
    check_problem(wrong, 422, "U+000A")
    assert [path.name for path in (tmp_path / "gallery").iterdir() if path.name.startswith(".")] == []


async def test_two_clients_import_the_same_archive_at_once(
    client: httpx.AsyncClient, services: Squares, tmp_path: Path
) -> None:
    files = parts(*((f"{side}.png", picture("red", side=side)) for side in range(50, 60)))
    await client.post("/api/members", data={"name": "rei"}, files=files)
    whole = (await client.get("/api/archive")).content
    await client.delete("/api/members/rei")
    sent = [client.post("/api/archive", content=whole, headers={"content-type": "application/zip"}) for _ in range(3)]
    more = client.post("/api/members", data={"name": "REI"}, files=parts(("more.png", picture("blue"))))
    answers = await asyncio.gather(*sent, more)
    assert {answer.status_code for answer in answers[:3]} == {200}
    assert answers[3].status_code in (201, 409)
    photos = [photo.file for photo in services.gallery.member("rei").photos if photo.file != "more.png"]
    assert sorted(photos) == [f"{side}.png" for side in range(50, 60)]


def test_copies_of_a_killed_service_are_swept(tmp_path: Path) -> None:
    for name, age in ((".archive-old", 3600), (".archive-new", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "members.zip").write_bytes(b"x")
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    archives.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".archive-new"]
