from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from streamer import errors
from streamer.errors import StreamerError
from streamer.service import problems
from streamer.service.problems import STATUSES, status_of

SECRET = "rtsp://admin:hunter2@camera/live"


class Order(BaseModel):
    count: int
    name: str


def make_app() -> FastAPI:
    app = FastAPI()
    problems.install(app)

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        raise getattr(errors, name)(f"cannot open {SECRET}: try again")

    @app.get("/bug")
    async def bug() -> None:
        raise KeyError(SECRET)

    @app.post("/orders")
    async def order(order: Order) -> Order:
        return order

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=make_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def check_problem(response: httpx.Response, status: int) -> dict[str, object]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = response.json()
    assert {"type", "title", "status", "detail"} <= body.keys()
    assert body["status"] == status
    return body


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("SourceUnusable", 422),
        ("SourceUnavailable", 503),
        ("VisionUnavailable", 503),
        ("ModelMissing", 503),
        ("PromptUnsupported", 422),
        ("MemberUnknown", 404),
        ("PhotoUnknown", 404),
        ("MemberExists", 409),
        ("GalleryUnwritable", 503),
        ("PhotoRefused", 422),
        ("NegotiationError", 400),
        ("CodecUnsupported", 406),
        ("StreamUnknown", 404),
        ("SessionUnknown", 404),
        ("TrackUnknown", 404),
        ("StreamConflict", 409),
        ("JobUnknown", 404),
        ("FileUnknown", 404),
        ("LimitReached", 429),
        ("RecordingError", 507),
        ("RecordingUnknown", 404),
        ("ConfigError", 500),
    ],
)
async def test_each_error_has_its_status_and_hides_credentials(
    client: httpx.AsyncClient, name: str, status: int
) -> None:
    body = check_problem(await client.get(f"/raise/{name}"), status)
    assert body["detail"] == "cannot open rtsp://***@camera/live: try again"


def test_every_error_class_has_a_status() -> None:
    own = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, StreamerError)]
    assert all(400 <= status_of(kind("x")) < 600 for kind in own)
    assert StreamerError in STATUSES


async def test_a_problem_names_its_type(client: httpx.AsyncClient) -> None:
    body = check_problem(await client.get("/raise/MemberUnknown"), 404)
    assert body["type"] == "urn:streamer:problem:member-unknown"
    assert body["title"] == "Member unknown"


async def test_503_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    response = await client.get("/raise/VisionUnavailable")
    assert int(response.headers["retry-after"]) > 0


async def test_an_unknown_route_and_a_wrong_method_are_problems(client: httpx.AsyncClient) -> None:
    body = check_problem(await client.get("/nowhere"), 404)
    assert "/nowhere" in str(body["detail"])
    wrong = await client.put("/orders")
    check_problem(wrong, 405)
    assert wrong.headers["allow"] == "POST"


async def test_a_wrong_field_is_named_in_one_line_without_its_value(client: httpx.AsyncClient) -> None:
    body = check_problem(await client.post("/orders", json={"count": SECRET}), 422)
    assert "\n" not in str(body["detail"])
    assert str(body["detail"]).startswith("count: ")
    assert "hunter2" not in str(body)
    assert [entry["field"] for entry in body["errors"]] == ["count", "name"]  # type: ignore[attr-defined]


async def test_a_body_that_is_no_json_is_400(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders", content=b"{nope", headers={"content-type": "application/json"})
    assert "not JSON" in str(check_problem(response, 400)["detail"])


async def test_a_bug_is_500_with_an_id_that_stands_in_the_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        body = check_problem(await client.get("/bug"), 500)
    assert "Traceback" not in str(body)
    assert "hunter2" not in str(body)
    assert str(body["error_id"]) in caplog.text


async def test_answers_are_not_kept_by_caches(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders", json={"count": 1, "name": "a"})
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", None])
async def test_json_that_is_not_called_so_is_told_the_header(
    client: httpx.AsyncClient, content_type: str | None
) -> None:
    """`curl -d` says that it sends a form."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = check_problem(await client.post("/orders", content=b'{"count": 1, "name": "a"}', headers=headers), 415)
    assert "Content-Type: application/json" in str(body["detail"])
    assert "dictionary" not in str(body["detail"])
