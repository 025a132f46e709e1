"""What is answered, what is refused and why, before any connection is made."""

from __future__ import annotations

import re
import time

import pytest
from aiortc import RTCPeerConnection

from streamer.errors import CodecUnsupported, NegotiationError
from streamer.webrtc.sdp import MAX_OFFER_BYTES, Role, raise_publisher_rate, read_offer
from tests.peers import prefer


async def offer(direction: str = "recvonly", codec: str | None = None, kind: str = "video") -> str:
    """A proper offer, without candidates (nothing is gathered)."""
    connection = RTCPeerConnection()
    connection.addTransceiver(kind, direction=direction)
    if codec is not None:
        prefer(connection, codec)
    text = (await connection.createOffer()).sdp
    await connection.close()
    return text


async def test_a_proper_offer_is_taken_for_either_role() -> None:
    assert read_offer(await offer("recvonly"), "viewer", True).mid == "0"
    assert read_offer(await offer("sendonly"), "publisher", True).mid == "0"
    assert read_offer(await offer("sendrecv"), "viewer", True).mid == "0"
    assert read_offer(await offer("sendonly", "VP8"), "publisher", True).mid == "0"


@pytest.mark.parametrize(
    "text",
    ["", "hello", "{}", "v=0", "v=0\r\nm=video", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF x\r\n", "v=1\r\n", "\x00\xff" * 50,
     "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=fmtp:97 x=1\r\n",
     "v=0\r\na=fingerprint:sha-256\r\n", "v=0\r\na=setup:nonsense\r\n"],
)  # fmt: skip
@pytest.mark.parametrize("role", ["viewer", "publisher"])
def test_garbage_is_refused_in_one_line(text: str, role: Role) -> None:
    with pytest.raises(NegotiationError) as error:
        read_offer(text, role, True)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


async def test_every_cut_and_every_lost_line_of_an_offer_is_taken_or_refused() -> None:
    text = await offer()
    lines = text.splitlines()
    variants = [text[:cut] for cut in range(0, len(text), 37)]
    variants += ["\r\n".join(lines[:n] + lines[n + 1 :]) for n in range(len(lines))]
    refused = 0
    for variant in variants:
        try:
            read_offer(variant, "viewer", True)
        except NegotiationError:
            refused += 1
    assert refused > len(variants) / 3


async def test_two_sections_of_one_name_are_refused() -> None:
    text = await offer()
    section = text[text.index("m=video") :]
    with pytest.raises(NegotiationError, match="same a=mid"):
        read_offer(text + section, "viewer", True)
    other = section.replace("a=mid:0", "a=mid:1")
    assert read_offer(text + other, "viewer", True).mid == "0"


async def test_the_reason_names_what_is_missing() -> None:
    with pytest.raises(NegotiationError, match="no video section"):
        read_offer(await offer(kind="audio"), "viewer", True)
    with pytest.raises(NegotiationError, match=r"receives video \(direction sendonly\)"):
        read_offer(await offer("sendonly"), "viewer", True)
    with pytest.raises(NegotiationError, match="sends video"):
        read_offer(await offer("recvonly"), "publisher", True)
    text = await offer()
    with pytest.raises(NegotiationError, match="no DTLS fingerprint"):
        read_offer(re.sub(r"a=fingerprint.*\r\n", "", text), "viewer", True)
    with pytest.raises(NegotiationError, match="ICE credentials"):
        read_offer(re.sub(r"a=ice-(ufrag|pwd).*\r\n", "", text), "viewer", True)
    with pytest.raises(NegotiationError, match="rtcp-mux"):
        read_offer(text.replace("a=rtcp-mux\r\n", ""), "viewer", True)
    with pytest.raises(NegotiationError, match="no video section"):
        read_offer(re.sub(r"m=video \d+", "m=video 0", text), "viewer", True)


async def test_an_offer_without_h264_says_what_it_has() -> None:
    with pytest.raises(CodecUnsupported, match=r"only VP8"):
        read_offer(await offer("recvonly", "VP8"), "viewer", True)
    high = (await offer("recvonly", "H264")).replace("42001f", "640c1f").replace("42e01f", "4d001f")
    with pytest.raises(CodecUnsupported, match=r"H\.264 baseline"):
        read_offer(high, "viewer", True)
    mode_0 = (await offer("recvonly", "H264")).replace("packetization-mode=1", "packetization-mode=0")
    with pytest.raises(CodecUnsupported, match="packetization-mode=1"):
        read_offer(mode_0, "viewer", True)


async def test_a_huge_offer_is_refused_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(NegotiationError, match="more than"):
        read_offer(await offer() + "a=x\r\n" * MAX_OFFER_BYTES, "viewer", True)
    assert time.monotonic() - began < 5


async def test_candidates_that_cannot_matter_are_taken_out() -> None:
    hosts = {
        "a": "candidate:1 1 udp 2122260223 192.168.1.7 50000 typ host generation 0",
        "b": "candidate:2 1 udp 2122260223 0a1b2c3d-1111-2222-3333-444455556666.local 50001 typ host",
        "c": "candidate:3 1 tcp 1518280447 192.168.1.7 9 typ host tcptype active",
        "d": "candidate:4 1 udp 2122260223 127.0.0.1 50002 typ host",
    }
    text = await offer() + "".join(f"a={host}\r\n" for host in hosts.values()) + "a=end-of-candidates\r\n"
    at_home, abroad = read_offer(text, "viewer", True).sdp, read_offer(text, "viewer", False).sdp
    assert [key for key, host in hosts.items() if host in at_home] == ["d"]
    assert [key for key, host in hosts.items() if host in abroad] == ["a", "d"]
    assert "end-of-candidates" not in abroad


async def test_the_answer_asks_a_browser_for_its_full_rate() -> None:
    text = await offer("sendonly")
    raised = raise_publisher_rate(text, 4_000_000, 8_000_000)
    extra = "x-google-start-bitrate=4000;x-google-max-bitrate=8000"
    vp8 = re.search(r"a=rtpmap:(\d+) VP8", raised)
    assert vp8 is not None
    assert f"a=fmtp:{vp8[1]} {extra}\r\n" in raised
    h264 = re.findall(r"a=fmtp:\d+ .*profile-level-id=.*", raised)
    assert h264
    assert all(line.rstrip().endswith(f";{extra}") for line in h264)
    assert extra not in "".join(re.findall(r"a=fmtp:\d+ apt=.*", raised))
    read_offer(raised, "publisher", True)
