"""Files over HTTP: in parts where that makes sense, whole or with a problem where it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Response
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.types import Message

from streamer.service.files import Bodiless, FileAnswer, disposition

CONTENT = bytes(range(100))
TOO_LONG = f"bytes={'9' * 5000}-"
"""Python refuses to read such a number."""
NONSENSE = ("lines=1-2", "bytes", "bytes=", "bytes=x-y", "bytes=9-4", "bytes=-", "0-4", "bytes=1-2;3", "bytes=0-1,9-4")


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def client(tmp_path: Path, done: list[str]) -> httpx.AsyncClient:
    (tmp_path / "file").write_bytes(CONTENT)
    app = FastAPI()

    @app.api_route("/file", methods=["GET", "HEAD"])
    async def get() -> Response:
        return FileAnswer(tmp_path / "file", media_type="video/mp4", background=BackgroundTask(done.append, "done"))

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=4-11", CONTENT[4:12]), ("bytes=90-", CONTENT[90:]), ("BYTES=-5", CONTENT[-5:]), ("bytes=0-999", CONTENT)],
)
async def test_a_part_is_sent(client: httpx.AsyncClient, done: list[str], asked: str, part: bytes) -> None:
    answer = await client.get("/file", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"].endswith("/100")
    assert done == ["done"]


async def test_several_parts_are_sent(client: httpx.AsyncClient) -> None:
    answer = await client.get("/file", headers={"Range": "bytes=0-1, 50-51"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")


@pytest.mark.parametrize("asked", [*NONSENSE, TOO_LONG])
async def test_a_range_that_says_nothing_is_ignored(client: httpx.AsyncClient, asked: str) -> None:
    answer = await client.get("/file", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=99999999-", "bytes=-0", "bytes=200-, 500-"])
async def test_a_range_beyond_the_end_is_a_problem(
    client: httpx.AsyncClient, done: list[str], method: str, asked: str
) -> None:
    answer = await client.request(method, "/file", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */100"
    assert answer.headers["content-type"] == "application/problem+json"
    if method == "GET":
        said = answer.json()
        assert said["status"] == 416
        assert "100 bytes" in said["detail"]
        assert asked in said["detail"]
    else:
        assert answer.content == b""
    assert done == ["done"], "what waits for the end of the answer is done however it ends"


async def test_a_head_says_what_a_get_says_and_sends_nothing(client: httpx.AsyncClient, done: list[str]) -> None:
    for range_ in ({}, {"Range": "bytes=4-11"}, {"Range": "bytes=0-1, 50-51"}):
        got = await client.get("/file", headers=range_)
        head = await client.head("/file", headers=range_)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == str(len(got.content))
        assert head.headers["accept-ranges"] == "bytes"
        assert set(head.headers) == set(got.headers)
    assert len(done) == 6


async def test_no_head_has_a_body_whatever_answers() -> None:
    app = FastAPI()
    app.add_middleware(Bodiless)

    @app.api_route("/text", methods=["GET", "HEAD"])
    async def get() -> Response:
        return Response("some text", media_type="text/plain")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/text")).text == "some text"
        head = await client.head("/text")
        assert (head.content, head.headers["content-length"]) == (b"", "9")
        assert (await client.head("/nothing")).content == b""


async def test_a_file_that_grows_or_goes_while_it_is_sent_keeps_its_word(tmp_path: Path) -> None:
    """A recording that runs: what was promised is sent, and not a byte more."""
    (tmp_path / "file").write_bytes(CONTENT)
    sent = []

    async def send(message: Message) -> None:
        sent.append(message)
        with (tmp_path / "file").open("ab") as file:
            file.write(b"more")

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "asgi": {"spec_version": "2.4"}}
    await FileAnswer(tmp_path / "file", media_type="video/mp4")(scope, receive, send)
    assert Headers(raw=sent[0]["headers"])["content-length"] == "100"
    assert b"".join(message["body"] for message in sent[1:]) == CONTENT
    assert [message["more_body"] for message in sent[1:]][-1] is False


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_file_that_is_gone_is_a_problem(
    client: httpx.AsyncClient, tmp_path: Path, done: list[str], method: str
) -> None:
    (tmp_path / "file").unlink()
    answer = await client.request(method, "/file")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert method == "HEAD" or "the file is gone" in answer.json()["detail"]
    assert done == ["done"]


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("stage 1.zip", 'attachment; filename="stage 1.zip"'),
        ("사진 1.zip", "attachment; filename=\"__ 1.zip\"; filename*=UTF-8''%EC%82%AC%EC%A7%84%201.zip"),
        ("Café.zip", "attachment; filename=\"Cafe.zip\"; filename*=UTF-8''Caf%C3%A9.zip"),
        ('a"b\\c%41;.zip', "attachment; filename=\"a_b_c_41_.zip\"; filename*=UTF-8''a%22b%5Cc%2541%3B.zip"),
        ("a\nb/../c.zip", "attachment; filename=\"a_b_.._c.zip\"; filename*=UTF-8''a%0Ab%2F..%2Fc.zip"),
    ],
)
async def test_every_program_finds_a_name_that_it_understands(name: str, header: str) -> None:
    assert disposition(name) == header
