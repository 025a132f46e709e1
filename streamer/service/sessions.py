"""WHIP (RFC 9725) and WHEP: an SDP offer in, an answer and the session's address out."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from streamer.errors import NegotiationError
from streamer.service.problems import problem
from streamer.service.schemas import Problem
from streamer.service.services import Services, ServicesDep
from streamer.service.settings import IceServer, Settings

SDP = "application/sdp"

Way = Literal["whip", "whep"]

router = APIRouter(prefix="/api/streams/{stream_id}", tags=["webrtc"])

_OFFER: dict[str, Any] = {"requestBody": {"required": True, "content": {SDP: {"schema": {"type": "string"}}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    201: {"content": {SDP: {}}, "description": "The SDP answer; `Location` is the session, DELETE it to end it."},
    400: {"model": Problem, "description": "The offer is no SDP."},
    404: {"model": Problem, "description": "No such stream."},
    406: {"model": Problem, "description": "The offer has no H.264."},
    409: {"model": Problem, "description": "The stream has a publisher already, or is not one of kind `whip`."},
    415: {"model": Problem, "description": f"The body is not {SDP}."},
    429: {"model": Problem, "description": "Too many viewers."},
}


@router.post("/whip", status_code=201, response_class=Response, responses=_ANSWERS, openapi_extra=_OFFER)
async def publish(stream_id: str, request: Request, parts: ServicesDep) -> Response:
    """Publish to a stream of kind `whip` (RFC 9725): a browser's webcam, OBS. One publisher at a time, H.264."""
    return await _negotiate(stream_id, "whip", request, parts)


@router.post("/whep", status_code=201, response_class=Response, responses=_ANSWERS, openapi_extra=_OFFER)
async def watch(stream_id: str, request: Request, parts: ServicesDep) -> Response:
    """Watch a stream (WHEP), H.264. Every viewer gets the same packets; joining starts with a keyframe."""
    return await _negotiate(stream_id, "whep", request, parts)


async def _negotiate(stream_id: str, way: Way, request: Request, parts: Services) -> Response:
    stream = parts.streams.get(stream_id)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != SDP:
        detail = f"send the SDP offer as {SDP}, not {media_type or 'without a type'}"
        return problem(415, detail, headers={"Accept-Post": SDP})
    offer = _text(await request.body())
    session_id, answer = await (stream.whip(offer) if way == "whip" else stream.whep(offer))
    address = f"{request.scope.get('root_path', '')}/api/streams/{stream_id}/{way}/{session_id}"
    response = Response(answer, 201, {"Location": address}, SDP)
    _add_ice_servers(response, parts.settings)
    return response


@router.options("/whip", status_code=204, include_in_schema=False)
@router.options("/whep", status_code=204, include_in_schema=False)
async def describe(stream_id: str, parts: ServicesDep) -> Response:
    """What the endpoint takes."""
    parts.streams.get(stream_id)
    return Response(status_code=204, headers={"Allow": "OPTIONS, POST", "Accept-Post": SDP})


@router.delete("/whip/{session_id}", status_code=204, response_class=Response, responses={404: {"model": Problem}})
@router.delete("/whep/{session_id}", status_code=204, response_class=Response, responses={404: {"model": Problem}})
async def end(stream_id: str, session_id: str, parts: ServicesDep) -> Response:
    """End a publisher's or a viewer's session."""
    await parts.streams.get(stream_id).end_session(session_id)
    return Response(status_code=204)


@router.api_route("/whip/{session_id}", methods=["OPTIONS", "PATCH"], include_in_schema=False)
@router.api_route("/whep/{session_id}", methods=["OPTIONS", "PATCH"], include_in_schema=False)
async def describe_session(stream_id: str, session_id: str, request: Request) -> Response:
    """A session can only be ended: every candidate is in the offer and the answer, so there is no trickle ICE."""
    allow = {"Allow": "DELETE, OPTIONS"}
    if request.method == "PATCH":
        return problem(405, "no trickle ICE and no restart here: send the offer with every candidate", headers=allow)
    return Response(status_code=204, headers=allow)


def _text(body: bytes) -> str:
    if not body.strip():
        raise NegotiationError("the body is empty; send the SDP offer of a peer connection")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise NegotiationError("the offer is not UTF-8 text; send the SDP offer of a peer connection") from exc


def _add_ice_servers(response: Response, settings: Settings) -> None:
    """STUN and TURN servers as `Link` headers (RFC 9725, 4.6)."""
    for server in settings.webrtc.ice_servers:
        for url in [server.urls] if isinstance(server.urls, str) else server.urls:
            response.headers.append("Link", _link(url, server))


def _link(url: str, server: IceServer) -> str:
    link = f'<{url}>; rel="ice-server"'
    if server.username is not None and server.credential is not None:
        link += f"; username={_quoted(server.username)}; credential={_quoted(server.credential)}"
        link += '; credential-type="password"'
    return link


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
