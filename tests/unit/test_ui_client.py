"""The dashboard's client against real HTTP answers (httpx's own transport, no socket)."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from ui.client import Photo, Service, ServiceError, ServiceUnreachable

Answer = Callable[[httpx.Request], httpx.Response]


def service(answer: Answer, token: str | None = None) -> Service:
    return Service("http://127.0.0.1:8000/", token, transport=httpx.MockTransport(answer))


def problem(status: int, **members: object) -> httpx.Response:
    return httpx.Response(status, content=json.dumps(members), headers={"Content-Type": "application/problem+json"})


def test_token_goes_with_every_call() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Authorization"))
        return httpx.Response(200, json=[])

    assert service(answer, "a-long-token").streams() == []
    service(answer).members()
    assert seen == ["Bearer a-long-token", None]


def test_problem_detail_becomes_one_line() -> None:
    client = service(lambda _: problem(404, title="Member unknown", detail="no member 'rie';\n  known: rei"))
    with pytest.raises(ServiceError, match=r"^no member 'rie'; known: rei$") as caught:
        client.update_stream("a1", member="rie")
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("response", "line"),
    [
        (problem(409, title="Stream conflict"), "Stream conflict"),
        (httpx.Response(502, text="<html>Bad gateway</html>"), "the service answered 502 Bad Gateway"),
        (problem(400, detail=["not", "a", "line"]), "the service answered 400 Bad Request"),
        (problem(401, detail="the token is wrong"), "the service wants a token"),
        (problem(404, detail="no recording 'zz'; GET /api/recordings lists them"), "^no recording 'zz'$"),
        (problem(409, detail="two are there; delete one"), "^two are there; delete one$"),
    ],
)
def test_any_refusal_has_a_line(response: httpx.Response, line: str) -> None:
    with pytest.raises(ServiceError, match=line):
        service(lambda _: response).streams()


def test_nobody_answers() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ServiceUnreachable, match=r"no service answers at http://127\.0\.0\.1:8000$"):
        service(answer).streams()


def test_too_slow_an_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    with pytest.raises(ServiceUnreachable, match="does not answer in time"):
        service(answer).stream("a1")


def test_another_program_at_the_address() -> None:
    with pytest.raises(ServiceError, match="check STREAMER_API"):
        service(lambda _: httpx.Response(200, text="<html>hello</html>")).streams()
    with pytest.raises(ServiceError, match="STREAMER_API"):
        service(lambda _: httpx.Response(200, json={"hello": 1})).streams()


@pytest.mark.parametrize("base", ["no scheme", "ftp://host", "http://[::1", "http://host:port"])
def test_an_address_that_is_none(base: str) -> None:
    with pytest.raises(ServiceUnreachable):
        Service(base).streams()


def test_names_are_quoted_in_the_path() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path.decode())
        return httpx.Response(204)

    service(answer).remove_member("장원영 / a?b#c")
    assert seen == ["/api/members/%EC%9E%A5%EC%9B%90%EC%98%81%20%2F%20a%3Fb%23c"]


def test_photos_go_as_multipart() -> None:
    bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append((request.headers["Content-Type"], request.read()))
        return httpx.Response(200, json={"photos": []})

    photos = [Photo("a.jpg", b"one", "image/jpeg"), Photo("b.png", b"two", "image/png")]
    service(answer).add_member("rei", photos, face="2")
    kind, body = bodies[0]
    assert b'name="name"\r\n\r\nrei' in body
    assert b'name="face"\r\n\r\n2' in body
    assert kind.startswith("multipart/form-data; boundary=")
    assert body.count(b'name="photos"') == 2
    assert b'filename="a.jpg"' in body
    assert b"two" in body


def test_only_what_changes_is_sent() -> None:
    bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={})

    client = service(answer)
    client.update_stream("a1", member=None)
    client.create_stream({"kind": "demo"})
    assert bodies == [{"member": None}, {"source": {"kind": "demo"}}]
