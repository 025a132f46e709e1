"""The routes of members over HTTP, on a real gallery. Faces are drawn squares, read by a small reader of its own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from streamer.errors import VisionUnavailable
from streamer.service import enrolment, members, problems
from streamer.service.enrolment import GivenPhoto
from streamer.vision import photos
from streamer.vision.gallery import Gallery
from streamer.vision.member import NewMember
from tests.squares import Squares, check_problem, parts, picture


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Squares]:
    with Gallery(tmp_path / "gallery") as gallery:
        yield Squares(gallery)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """The routes, put together once; what they work on is each test's own."""
    app = FastAPI()
    app.include_router(members.router)
    problems.install(app)
    return app


@pytest.fixture
async def client(app: FastAPI, services: Squares) -> AsyncIterator[httpx.AsyncClient]:
    app.state.services = services
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as opened:
        yield opened


async def test_add_list_look_remove(client: httpx.AsyncClient, services: Squares) -> None:
    files = parts(
        ("one.png", picture("red")), ("two.png", picture("lime", "blue")), ("three.png", picture("red", side=90))
    )
    made = await client.post("/api/members", data={"name": " Rei ", "group": "IVE"}, files=files)
    assert made.status_code == 201
    assert made.headers["location"] == "/api/members/Rei"
    body = made.json()
    assert [entry["file"] for entry in body["kept"]] == ["one.png", "three.png"]
    assert [entry["file"] for entry in body["refused"]] == ["two.png"]
    assert "2 faces" in body["refused"][0]["reason"]
    assert body["member"]["group"] == "IVE"
    assert services.pushed[-1].names == ("Rei",)
    assert len(services.pushed[-1].owners) == 2

    listed = (await client.get("/api/members")).json()
    assert listed == [body["member"]]
    assert (await client.get("/api/members/rei")).json() == body["member"]
    photo = listed[0]["photos"][0]
    assert photo["face"] == [40, 40, 120, 120]
    small = await client.get(photo["thumbnail_url"])
    assert small.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(small.content)) as image:
        assert image.size == (160, 160)

    assert (await client.delete(f"/api/members/Rei/photos/{photo['id']}")).status_code == 204
    assert len(services.pushed[-1].owners) == 1
    check_problem(await client.get(photo["thumbnail_url"]), 404, "no photo")
    assert (await client.delete("/api/members/Rei")).status_code == 204
    assert services.pushed[-1].names == ()
    assert (await client.get("/api/members")).json() == []


async def test_names_in_urls(client: httpx.AsyncClient) -> None:
    for name in ("장원영", "วันยอง", "😀 x", "a%2Fb", "what?#", "O'Neil & Co; +1"):
        made = await client.post("/api/members", json={"name": name})
        assert made.status_code == 201, name
        location = made.headers["location"]
        assert (await client.get(location)).json()["name"] == name
        added = await client.post(f"{location}/photos", files=parts(("a.png", picture("red"))))
        thumbnail = added.json()["member"]["photos"][0]["thumbnail_url"]
        assert (await client.get(thumbnail)).status_code == 200
        assert (await client.delete(location)).status_code == 204


async def test_a_member_without_photos_and_then_with(client: httpx.AsyncClient, services: Squares) -> None:
    made = await client.post("/api/members", json={"name": "liz", "display_name": "Liz", "consent": "by mail"})
    assert made.status_code == 201
    assert made.json()["member"]["photos"] == []
    added = await client.post("/api/members/LIZ/photos", files=parts(("a.png", picture("red"))))
    assert added.status_code == 201
    again = await client.post("/api/members/liz/photos", files=parts(("b.png", picture("red"))))
    assert again.json()["kept"][0]["duplicate"] is True
    assert len(again.json()["member"]["photos"]) == 1
    assert services.read == 1
    check_problem(await client.post("/api/members", json={"name": "LIZ"}), 409, "'liz'")
    twice = await client.post("/api/members", data={"name": "Liz"}, files=parts(("a.png", picture("red"))))
    check_problem(twice, 409)


async def test_no_photo_kept_means_no_member(client: httpx.AsyncClient, services: Squares) -> None:
    files = parts(("none.png", picture()), ("text.png", b"hello"), ("tiny.png", picture("red", side=20)))
    body = check_problem(
        await client.post("/api/members", data={"name": "rei"}, files=files),
        422,
        "no face",
        "not an image",
        "20 pixels",
    )
    refused = body["refused"]
    assert isinstance(refused, list)
    assert [entry["file"] for entry in refused] == ["none.png", "text.png", "tiny.png"]
    assert (await client.get("/api/members")).json() == []
    check_problem(await client.get("/api/members/rei"), 404, "empty")
    check_problem(await client.post("/api/members/rei/photos", files=files), 404)
    await client.post("/api/members", json={"name": "rei"})
    check_problem(await client.post("/api/members/rei/photos", files=files), 422)
    assert (await client.get("/api/members/rei")).json()["photos"] == []


async def test_the_face_can_be_chosen(client: httpx.AsyncClient) -> None:
    group = parts(("group.png", picture("red", "lime", "blue")))
    check_problem(await client.post("/api/members", data={"name": "rei"}, files=group), 422, "3 faces", "1 at 80,80")
    made = await client.post("/api/members", data={"name": "rei", "face": "2"}, files=group)
    assert made.json()["member"]["photos"][0]["face"] == [240, 40, 320, 120]
    made = await client.post("/api/members", data={"name": "liz", "face": "470,100"}, files=group)
    assert made.json()["member"]["photos"][0]["face"] == [440, 40, 520, 120]
    assert made.json()["kept"][0]["remark"] is None
    check_problem(await client.post("/api/members/liz/photos", data={"face": "x"}, files=group), 422, "'x'")


async def test_a_photo_of_somebody_else_is_kept_with_a_warning(client: httpx.AsyncClient) -> None:
    await client.post("/api/members", data={"name": "rei"}, files=parts(("a.png", picture("red"))))
    await client.post("/api/members", data={"name": "liz"}, files=parts(("b.png", picture("blue"))))
    added = await client.post("/api/members/liz/photos", files=parts(("c.png", picture("#f00010"))))
    assert "'rei'" in added.json()["kept"][0]["remark"]


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "a\nb", "x" * 300, "unknown"])
async def test_names_that_cannot_be(client: httpx.AsyncClient, name: str) -> None:
    check_problem(await client.post("/api/members", json={"name": name}), 422)


async def test_bodies_that_cannot_be(client: httpx.AsyncClient) -> None:
    json_type = {"content-type": "application/json"}
    check_problem(await client.post("/api/members", content=b"{", headers=json_type), 400, "JSON")
    check_problem(await client.post("/api/members", content=b"\xff\xfe", headers=json_type), 400)
    check_problem(await client.post("/api/members", content=b'{"name": "\\ud800"}', headers=json_type), 422, "U+D800")
    check_problem(await client.post("/api/members", json=["rei"]), 422)
    check_problem(await client.post("/api/members", json={"nom": "rei"}), 422)
    check_problem(await client.post("/api/members", json={"name": 7}), 422, "name")
    check_problem(await client.post("/api/members", content=b"rei", headers={"content-type": "text/plain"}), 415)
    form_type = {"content-type": "multipart/form-data; boundary=x"}
    check_problem(await client.post("/api/members", content=b"--y\r\n", headers=form_type), 400)
    check_problem(await client.post("/api/members", data={"nom": "rei"}, files=parts(("a", picture("red")))), 422)
    check_problem(await client.delete("/api/members/rei"), 404)
    await client.post("/api/members", json={"name": "rei"})
    check_problem(await client.post("/api/members/rei/photos", data={"face": "1"}, files=parts()), 415)
    check_problem(await client.post("/api/members/rei/photos", files={"photos": ("", b"")}), 422, "no photo")
    too_many = parts(*((f"{n}.png", b"x") for n in range(members.MAX_PHOTOS + 1)))
    check_problem(await client.post("/api/members/rei/photos", files=too_many), 400, "Too many files")


async def test_a_photo_with_too_many_bytes_is_refused_by_itself(client: httpx.AsyncClient) -> None:
    files = parts(("big.png", bytes(photos.MAX_PHOTO_BYTES + 1)), ("..\\..\\C:\\x/good\x07.png", picture("red")))
    made = await client.post("/api/members", data={"name": "rei"}, files=files)
    assert made.status_code == 201
    assert "25 MB" in made.json()["refused"][0]["reason"]
    assert made.json()["kept"][0]["file"] in ("good .png", "good%07.png")


async def test_half_a_member_is_not_left_when_vision_fails(client: httpx.AsyncClient, services: Squares) -> None:
    services.fails_after = 1
    files = parts(("a.png", picture("red")), ("b.png", picture("red", side=90)))
    check_problem(await client.post("/api/members", data={"name": "rei"}, files=files), 503, "restarting")
    assert (await client.get("/api/members")).json() == []
    assert services.pushed[-1].names == ()
    services.fails_after = None
    assert (await client.post("/api/members", data={"name": "rei"}, files=files)).status_code == 201


async def test_taking_back_half_a_member_leaves_what_others_added(services: Squares) -> None:
    added: list[GivenPhoto] = [GivenPhoto("b.png", picture("lime"))]

    async def given() -> AsyncIterator[GivenPhoto]:
        yield GivenPhoto("a.png", picture("red"))
        await enrolment.add_photos(services, "rei", enrolment.each(added), source="upload")
        raise VisionUnavailable("the vision worker is restarting; try again in a few seconds")

    with pytest.raises(VisionUnavailable):
        await enrolment.add_member(services, NewMember("rei"), given(), source="upload")
    assert [photo.file for photo in services.gallery.member("rei").photos] == ["b.png"]


async def test_two_clients_at_once_lose_nothing(client: httpx.AsyncClient) -> None:
    first = client.post("/api/members", data={"name": "rei"}, files=parts(("a.png", picture("red"))))
    second = client.post("/api/members", data={"name": "REI"}, files=parts(("b.png", picture("lime"))))
    assert sorted(answer.status_code for answer in await asyncio.gather(first, second)) == [201, 409]
    sides = range(50, 62)
    added = [
        client.post("/api/members/rei/photos", files=parts((f"{side}.png", picture("blue", side=side))))
        for side in sides
    ]
    assert {answer.status_code for answer in await asyncio.gather(*added)} == {201}
    assert len((await client.get("/api/members/rei")).json()["photos"]) == 1 + len(sides)


async def test_demo_members_come_once_into_an_empty_gallery(services: Squares) -> None:
    pictures = {
        "ada": [picture("red"), picture("red", side=90)],
        "nobody seen": [picture()],
        "grace": [picture("blue")],
    }
    assert await members.enrol_demo_members(services, pictures) == ["ada", "grace"]
    assert [member.name for member in services.gallery.members()] == ["ada", "grace"]
    assert services.gallery.member("ada").photos[0].source == "demo"
    assert services.pushed[-1].names == ("ada", "grace")
    services.gallery.remove_member("grace")
    assert await members.enrol_demo_members(services, pictures) == []


async def test_a_change_of_the_model_reads_the_photos_again(services: Squares, tmp_path: Path) -> None:
    given = [GivenPhoto("a.png", picture("red", "blue")), GivenPhoto("b.png", picture("lime"))]
    pick = enrolment.FacePick(number=2)
    await enrolment.add_member(services, NewMember("rei"), enrolment.each(given[:1]), source="upload", pick=pick)
    await enrolment.add_photos(services, "rei", enrolment.each(given[1:]), source="upload")
    lost = services.gallery.member("rei").photos[1]
    (tmp_path / "gallery" / "photos" / f"{lost.id}.png").unlink()
    services.model_id = "other"
    hopeless: set[str] = set()
    assert await enrolment.embed_missing(services, "other", hopeless) == 1
    assert hopeless == {lost.id}
    known = services.gallery.known("other")
    assert known.names == ("rei",)
    assert np.allclose(known.embeddings, [[1, 0, 0]], atol=0.02)  # blue, the face that was chosen
    reads = services.read
    assert await enrolment.embed_missing(services, "other", hopeless) == 0
    assert services.read == reads
