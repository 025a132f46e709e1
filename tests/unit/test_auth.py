from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from streamer.service import auth, problems
from streamer.service.links import Links
from streamer.service.settings import Settings, load

DASHBOARD = "http://127.0.0.1:8501"
FOREIGN = "https://evil.example"
TOKEN = "correct-horse"


def make_client(settings: Settings, base_url: str = "http://127.0.0.1:8000") -> httpx.AsyncClient:
    app = FastAPI()
    problems.install(app)
    auth.install(app, settings, Links())

    @app.get("/healthz")
    @app.get("/metrics")
    @app.get("/api/streams")
    async def read() -> dict[str, str]:
        return {"hello": "world"}

    @app.post("/api/streams")
    @app.post("/api/members/rei/photos")
    async def write(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.options("/api/streams")
    async def options() -> Response:
        return Response(status_code=204)

    @app.post("/api/streams/1/whep")
    async def whep() -> Response:
        return Response("answer", 201, {"Location": "/api/streams/1/whep/2"}, "application/sdp")

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=base_url)


def settings(**values: Any) -> Settings:
    return load(None, values)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with make_client(settings()) as client:
        yield client


@pytest.fixture
async def guarded() -> AsyncIterator[httpx.AsyncClient]:
    async with make_client(settings(token=TOKEN)) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_without_a_token_loopback_is_open(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/streams")).status_code == 200
    assert (await client.post("/api/streams", content=b"x")).json() == {"bytes": 1}


@pytest.mark.parametrize("path", ["/api/streams", "/metrics"])
async def test_a_token_is_required_on_loopback_too(guarded: httpx.AsyncClient, path: str) -> None:
    response = await guarded.get(path)
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == 'Bearer realm="streamer"'


async def test_whep_and_whip_need_the_token(guarded: httpx.AsyncClient) -> None:
    assert (await guarded.post("/api/streams/1/whep")).status_code == 401
    assert (await guarded.post("/api/streams/1/whep", headers=bearer(TOKEN))).status_code == 201


@pytest.mark.parametrize(
    "header",
    [
        "Bearer wrong-horse",
        f"Bearer {TOKEN}x",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer",
        "",
        f"Bearer {TOKEN[:-1]}",
        "Bearer é",
    ],
)
async def test_anything_but_the_token_is_refused(guarded: httpx.AsyncClient, header: str) -> None:
    response = await guarded.get("/api/streams", headers={"Authorization": header.encode("utf-8")})
    assert response.status_code == 401
    assert TOKEN not in response.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_token_opens(guarded: httpx.AsyncClient, scheme: str) -> None:
    response = await guarded.get("/api/streams", headers={"Authorization": f"{scheme} {TOKEN}"})
    assert response.status_code == 200


async def test_a_wrong_token_is_told_from_none(guarded: httpx.AsyncClient) -> None:
    response = await guarded.get("/api/streams", headers=bearer("wrong-horse"))
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


async def test_health_needs_no_token(guarded: httpx.AsyncClient) -> None:
    assert (await guarded.get("/healthz")).status_code == 200


async def test_an_unknown_api_route_does_not_show_without_the_token(guarded: httpx.AsyncClient) -> None:
    assert (await guarded.get("/api/nowhere")).status_code == 401


@pytest.mark.parametrize("origin", [DASHBOARD, "http://localhost:8501"])
async def test_the_dashboards_page_may_call(client: httpx.AsyncClient, origin: str) -> None:
    response = await client.post("/api/streams/1/whep", headers={"Origin": origin})
    assert response.status_code == 201
    assert response.headers["access-control-allow-origin"] == origin
    exposed = {name.strip() for name in response.headers["access-control-expose-headers"].split(",")}
    assert "Location" in exposed


async def test_preflight_needs_no_token(guarded: httpx.AsyncClient) -> None:
    headers = {
        "Origin": DASHBOARD,
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    response = await guarded.options("/api/streams", headers=headers)
    assert response.status_code == 200
    assert "DELETE" in response.headers["access-control-allow-methods"]


async def test_a_refusal_is_readable_for_the_dashboards_page(guarded: httpx.AsyncClient) -> None:
    response = await guarded.get("/api/streams", headers={"Origin": DASHBOARD})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == DASHBOARD


@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://127.0.0.1:9999", "http://127.0.0.1:8501.evil.example"])
async def test_a_foreign_page_may_change_nothing(client: httpx.AsyncClient, origin: str) -> None:
    response = await client.post("/api/streams", headers={"Origin": origin})
    assert response.status_code == 403
    assert response.headers["content-type"] == "application/problem+json"
    assert "access-control-allow-origin" not in response.headers


async def test_a_foreign_page_may_read_nothing(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/streams", headers={"Origin": FOREIGN})
    assert "access-control-allow-origin" not in response.headers
    preflight = {"Origin": FOREIGN, "Access-Control-Request-Method": "DELETE"}
    assert (await client.options("/api/streams", headers=preflight)).status_code == 400


async def test_the_services_own_pages_may_change_things(client: httpx.AsyncClient) -> None:
    """/docs sends its requests from the service's own origin."""
    response = await client.post("/api/streams", headers={"Origin": "http://127.0.0.1:8000"})
    assert response.status_code == 200


async def test_further_origins_come_from_the_settings() -> None:
    allowed = settings(service={"allowed_origins": ["https://wall.example/"], "dashboard_port": 9000})
    async with make_client(allowed) as client:
        for origin, status in (("https://wall.example", 200), ("http://localhost:9000", 200), (DASHBOARD, 403)):
            assert (await client.post("/api/streams", headers={"Origin": origin})).status_code == status


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "0.0.0.0"])
async def test_a_rebound_name_is_refused_on_loopback(client: httpx.AsyncClient, host: str) -> None:
    response = await client.get("/healthz", headers={"Host": host})
    assert response.status_code == 421
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:8000"])
async def test_this_machines_names_are_answered(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


async def test_beyond_loopback_any_name_is_answered_with_the_token() -> None:
    public = settings(token=TOKEN, service={"host": "0.0.0.0"})
    async with make_client(public, "http://cameras.example:8000") as client:
        assert (await client.get("/api/streams")).status_code == 401
        assert (await client.get("/api/streams", headers=bearer(TOKEN))).status_code == 200


async def test_a_declared_body_over_the_limit_is_refused_unread(client: httpx.AsyncClient) -> None:
    response = await client.post("/api/streams", content=b"x" * (auth.BODY_BYTES + 1))
    assert response.status_code == 413
    assert "64 KiB" in response.json()["detail"]
    assert (await client.post("/api/streams", content=b"x" * auth.BODY_BYTES)).status_code == 200


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 4096

    response = await client.post("/api/streams", content=endless())
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


async def test_photos_may_be_larger(client: httpx.AsyncClient) -> None:
    photo = {"photos": ("a.jpg", b"x" * 200_000)}
    assert (await client.post("/api/members/rei/photos", files=photo)).status_code == 200
    assert (await client.post("/api/streams", files=photo)).status_code == 413
