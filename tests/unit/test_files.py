"""Files over HTTP: in parts where that makes sense, whole or with a problem where it does not."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Response
from starlette.background import BackgroundTask

from streamer.service.files import FileAnswer

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
    assert done == ["done"], "what waits for the end of the answer is done however it ends"
