"""What the benchmark's publisher and viewers share: an aiortc connection made over HTTP, and a report at the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

from streamer.errors import NegotiationError
from streamer.webrtc.hooks import bind_to

ANSWER_SECONDS = 20.0


def connection() -> RTCPeerConnection:
    """A peer connection without STUN and TURN."""
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


async def negotiate(peer: RTCPeerConnection, url: str) -> str:
    """Offer H.264 on loopback to a WHIP or WHEP endpoint and take the answer; the session's URL.

    Raises:
        NegotiationError: the service refused.
    """
    capabilities = RTCRtpSender.getCapabilities("video")
    assert capabilities is not None
    chosen = [c for c in capabilities.codecs if c.name in ("H264", "rtx")]
    for transceiver in peer.getTransceivers():
        transceiver.setCodecPreferences(chosen)
    offer = await peer.createOffer()
    bind_to(peer, ["127.0.0.1"])
    await peer.setLocalDescription(offer)
    headers = {"Content-Type": "application/sdp", **authorization()}
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as client:
        response = await client.post(url, content=peer.localDescription.sdp, headers=headers)
    if response.status_code != 201:
        raise NegotiationError(f"{url} answered {response.status_code}: {response.text[:300]}")
    await peer.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
    return str(httpx.URL(url).join(response.headers["Location"]))


async def first_stream(base: str) -> str:
    """The WHEP endpoint of a service's first stream; waits until there is a service and a stream."""
    async with httpx.AsyncClient(timeout=2.0, trust_env=False, headers=authorization()) as client:
        while True:
            try:
                streams = (await client.get(f"{base}/api/streams")).json()
                if streams:
                    return f"{base}/api/streams/{streams[0]['id']}/whep"
            except (httpx.HTTPError, ValueError):
                pass  # not up yet
            await asyncio.sleep(0.05)


async def leave(peer: RTCPeerConnection, session_url: str) -> None:
    """End the session at the service and close the connection."""
    try:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            await client.delete(session_url, headers=authorization())
    except httpx.HTTPError:
        pass  # the service may be gone already, which ends the session as well
    await peer.close()


def authorization() -> dict[str, str]:
    """The header that a service with a token wants; it has it from the same environment."""
    token = os.environ.get("STREAMER_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT: the parent wants the report."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(report), encoding="utf-8")
    partial.replace(path)
