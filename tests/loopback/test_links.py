"""Signed links on the real service with a token: what they open, for how long, and that they show up nowhere."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote

import httpx
import pytest

from streamer.service import links as links_module
from streamer.service.app import create_app
from streamer.service.links import LIFETIME_SECONDS, Links
from streamer.service.settings import load
from tests import media

TOKEN = "correct-horse"
RECORDING = "0a1b2c3d_원영_20261125T101500Z"
ADDRESS = f"/api/recordings/{quote(RECORDING)}"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recording(data_dir: Path) -> bytes:
    """The bytes of a recording that is there, with a line beside it."""
    folder = data_dir / "recordings"
    folder.mkdir()
    path = media.video(folder / f"{RECORDING}.mp4")
    path.with_suffix(".jsonl").write_text('{"v": 1}\n', encoding="utf-8")
    return path.read_bytes()


@pytest.fixture
async def client(data_dir: Path, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    """A client without the token."""
    app = create_app(load(None, {"data_dir": data_dir, "vision": {"engine": "none"}, "token": TOKEN}))
    app.state.links._clock = clock
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            yield client


async def link(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.post("/api/links", json={"paths": [path]}, headers=BEARER)
    assert answer.status_code == 200, answer.text
    assert answer.json()["expires_in_seconds"] == LIFETIME_SECONDS
    assert answer.headers["cache-control"] == "no-store"
    (made,) = answer.json()["links"]
    assert TOKEN not in made
    return str(made)


async def test_a_link_opens_a_recording_without_the_token_in_parts_too(
    client: httpx.AsyncClient, recording: bytes
) -> None:
    assert (await client.get(ADDRESS)).status_code == 401
    made = await link(client, ADDRESS)
    assert re.fullmatch(rf"{re.escape(ADDRESS)}\?expires=\d+&sig=[0-9a-f]{{64}}", made)
    whole = await client.get(made)
    assert (whole.status_code, whole.content) == (200, recording)
    assert whole.headers["cache-control"] == "no-store"
    part = await client.get(made, headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, recording[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(recording)}"
    for more in ("/poster.jpg", "/sidecar"):
        assert (await client.get(await link(client, ADDRESS + more))).status_code == 200


async def test_a_link_answers_a_head_as_it_answers_a_get(client: httpx.AsyncClient, recording: bytes) -> None:
    for path in (ADDRESS, f"{ADDRESS}/sidecar", f"{ADDRESS}/poster.jpg"):
        assert (await client.head(path)).status_code == 401
        made = await link(client, path)
        got = await client.get(made)
        for head in (await client.head(made), await client.head(path, headers=BEARER)):
            assert (head.status_code, head.content) == (200, b"")
            assert dict(head.headers) == dict(got.headers)
            assert head.headers["content-length"] == str(len(got.content))
        wrong = await client.head(f"{made}0")
        assert (wrong.status_code, wrong.content) == (401, b"")
    part = await client.head(await link(client, ADDRESS), headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.headers["content-length"]) == (206, "100")


async def test_a_link_needs_the_token_to_be_made(client: httpx.AsyncClient, recording: bytes) -> None:
    wanted = {"paths": [ADDRESS]}
    assert (await client.post("/api/links", json=wanted)).status_code == 401
    made = await link(client, ADDRESS)
    query = made.partition("?")[2]
    assert (await client.post(f"/api/links?{query}", json=wanted)).status_code == 401


async def test_a_link_ends(client: httpx.AsyncClient, recording: bytes, clock: Clock) -> None:
    made = await link(client, ADDRESS)
    clock.now += LIFETIME_SECONDS - 1
    assert (await client.get(made)).status_code == 200
    clock.now += 1
    late = await client.get(made)
    assert late.status_code == 401
    assert late.headers["content-type"] == "application/problem+json"
    assert "has expired: ask for another one" in late.json()["detail"]
    assert (await client.get(await link(client, ADDRESS))).status_code == 200


async def test_a_link_opens_its_own_file_for_reading_and_nothing_else(
    client: httpx.AsyncClient, recording: bytes, clock: Clock
) -> None:
    made = await link(client, ADDRESS)
    query = made.partition("?")[2]
    later = re.sub(r"expires=\d+", f"expires={int(clock.now) + 10**6}", query)
    last = query[-1]
    for wrong in (
        f"{ADDRESS}/sidecar?{query}",
        f"{ADDRESS}/timeline?{query}",
        f"/api/recordings?{query}",
        f"/api/members?{query}",
        f"{ADDRESS}?{later}",
        f"{ADDRESS}?{query[:-1]}{'0' if last != '0' else '1'}",
        f"{ADDRESS}?{query[:-1]}",
        f"{ADDRESS}?{query}&sig=",
        f"{ADDRESS}?{query}&expires=1",
        f"{ADDRESS}?{query.partition('&')[2]}",
        f"{ADDRESS}?expires=%31%00&sig=é",
        f"{ADDRESS}?sig=",
    ):
        assert (await client.get(wrong)).status_code == 401, wrong
    for method in ("DELETE", "POST", "PATCH", "PUT"):
        assert (await client.request(method, made)).status_code == 401, method
    # A wrong token is not made good by a link; the right one needs none.
    assert (await client.get(made, headers={"Authorization": "Bearer wrong-horse"})).status_code == 401
    assert (await client.get(f"{ADDRESS}?sig=0&expires=0", headers=BEARER)).status_code == 200
    assert (await client.get(made)).status_code == 200, "all that was refused changed nothing"


async def test_a_link_of_another_run_opens_nothing(client: httpx.AsyncClient, recording: bytes, clock: Clock) -> None:
    other = Links(clock)
    refused = await client.get(other.sign(ADDRESS, other.expiry()))
    assert refused.status_code == 401
    assert "of an earlier run of the service" in refused.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/members",
        "/api/members/api/recordings/x",
        "/api/archive",
        "/api/streams/1/snapshot.jpg",
        f"{ADDRESS}/timeline",
        f"{ADDRESS}?expires=1",
        f"{ADDRESS}#x",
        "/api/jobs/1",
        "/api/jobs/1/timeline",
        "/api/jobs/1/inputs/x",
        "http://127.0.0.1/api/recordings/x",
        "",
        "/api/recordings/..",
        "/api/recordings/%2e%2e",
        "/api/recordings/.hidden",
        "/api/recordings/a%00b",
        "/api/recordings/a%0Ab",
        "/api/recordings/a\nb",
        "/api/recordings/a%FFb",
        "/api/recordings/x%2F..%2Fy",
        "/api/recordings/x/",
        "/api/jobs/../files/x",
        "/api/jobs/1/files/../../2/files/x",
        "/api/jobs/1/files/%2e%2e/x",
        "/api/jobs/1/files/./x",
        "/api/jobs/1/files//x",
        "/api/jobs/1/files/x/",
        "/api/jobs/1/files/a%00b",
        "/api/jobs/1/files/a%7Fb",
        "/api/jobs/1/files/..%5Cx",
        "/api/jobs/1/inputs/99999",
    ],
)
async def test_links_are_made_to_media_alone(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post("/api/links", json={"paths": [ADDRESS, path]}, headers=BEARER)
    assert answer.status_code == 422
    assert "only to those are links made" in answer.json()["detail"]
    # Nor does a signature open it, were there one.
    links = client._transport.app.state.links  # type: ignore[attr-defined]
    until = str(links.expiry())
    query = f"expires={until}&sig={links._signature(unquote(path), until)}"
    assert (await client.get(f"{path or '/api/x'}?{query}".replace("\n", "%0A"))).status_code in (401, 404)


async def test_files_of_jobs_have_links(client: httpx.AsyncClient) -> None:
    """There is no such job; what is behind the gate says so."""
    for rest in ("files/0-a/annotated.png", "files/one%20%2F%20two.png", "files.zip", "inputs/0"):
        path = f"/api/jobs/0123456789abcdef/{rest}"
        assert (await client.get(path)).status_code == 401
        assert (await client.get(await link(client, path))).status_code == 404


async def test_a_signature_is_in_no_log(
    client: httpx.AsyncClient, recording: bytes, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = await link(client, ADDRESS)
    with caplog.at_level(logging.CRITICAL, "httpx"):  # the test's own client
        assert (await client.get(made)).status_code == 200
        clock.now += LIFETIME_SECONDS
        late = await client.get(made)
    signature = made.partition("sig=")[2]
    assert signature not in late.text
    assert signature not in caplog.text


async def test_a_signature_is_not_in_the_output_of_the_service(data_dir: Path, recording: bytes) -> None:
    command = [sys.executable, "-m", "streamer", "--verbose", "--engine", "none", "--data-dir", str(data_dir)]
    process = await asyncio.create_subprocess_exec(
        *(*command, "serve", "--port", "0"),
        env=os.environ | {"STREAMER_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        base = (await process.stdout.readline()).decode().removeprefix("listening on ").strip()
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            made = await link(client, ADDRESS)
            assert (await client.get(made, headers={"Range": "bytes=0-9"})).status_code == 206
            assert (await client.get(f"{made}0")).status_code == 401
        process.send_signal(signal.SIGINT)
        said = b"".join(await process.communicate())
    assert process.returncode == 0
    signature = made.partition("sig=")[2]
    assert signature.encode() not in said
    assert b"sig=" not in said


async def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = links_module.hmac.compare_digest
    monkeypatch.setattr(links_module.hmac, "compare_digest", lambda a, b: compared.append(len(b)) or real(a, b))
    links = Links()
    assert links.refusal("/api/recordings/x", f"expires={links.expiry()}&sig=0") is not None
    assert compared == [64]
