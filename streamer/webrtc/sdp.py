"""Offers read and checked before a connection is made, answers adorned. Text only: no sockets."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.sdp import MediaDescription, SessionDescription

from streamer.errors import CodecUnsupported, NegotiationError

Role = Literal["publisher", "viewer"]
"""Who sent the offer: a WHIP publisher or a WHEP viewer."""

MAX_OFFER_BYTES = 128 * 1024
"""Chromium's offer for one video is 6 KB."""
PUBLISHER_CODECS = ("H264", "VP8")
"""What a publisher may send, in the order we prefer."""
VIEWER_CODECS = ("H264",)
"""What a viewer gets: the packets of the one encoder."""

_CANDIDATE = re.compile(r"a=candidate:\S+ \d+ (?P<transport>\S+) \d+ (?P<host>\S+) ")
# What aiortc's parser raises on text that is no SDP: it has no error of its own.
_PARSER_ERRORS = (ValueError, LookupError, TypeError, AttributeError, AssertionError, StopIteration)


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer that can be answered."""

    sdp: str
    """The text for aiortc, candidates that cannot matter taken out."""
    mid: str
    """The one video section that is answered; all others become inactive."""


def read_offer(text: str, role: Role, loopback_only: bool) -> Offer:
    """The offer in `text`, checked.

    Args:
        loopback_only: drop the peer's candidates outside 127.0.0.0/8 and ::1, which our sockets cannot reach. A peer
            that reaches us from another address of this machine is learnt from its first check (peer-reflexive).

    Raises:
        CodecUnsupported: a proper offer without H.264 (a publisher may also offer VP8).
        NegotiationError: not SDP, or without a usable video section; the message names what is missing.
    """
    if len(text.encode("utf-8", "replace")) > MAX_OFFER_BYTES:
        raise NegotiationError(f"the SDP offer is {len(text)} characters, more than {MAX_OFFER_BYTES}: send one offer")
    lines = text.splitlines()
    if not lines or lines[0].strip() != "v=0":
        raise NegotiationError("the body is not an SDP offer (it does not begin with v=0): send the offer as text")
    kept = "\r\n".join(line.rstrip() for line in lines if line.strip() and _may_stay(line, loopback_only)) + "\r\n"
    try:
        session = SessionDescription.parse(kept)
    except _PARSER_ERRORS as exc:
        raise NegotiationError(
            "the SDP offer cannot be parsed: send the text that the client's createOffer gave, whole and unchanged"
        ) from exc
    mids = [media.rtp.muxId for media in session.media]
    if len(set(mids)) < len(mids):
        raise NegotiationError("two sections of the SDP offer have the same a=mid, or none: each needs one of its own")
    return Offer(kept, _video_of(session, role).rtp.muxId)


def raise_publisher_rate(answer: str, start_bit_rate: int, max_bit_rate: int) -> str:
    """`answer` with Chromium's start and maximum bit rate (bits per second) on every video codec.

    Without them a browser begins at 0.3 Mb/s and sends 480x270 for the first half minute.
    """
    extra = f"x-google-start-bitrate={start_bit_rate // 1000};x-google-max-bitrate={max_bit_rate // 1000}"
    codecs = set(re.findall(r"^a=rtpmap:(\d+) (?:VP8|H264)/90000\r?$", answer, re.MULTILINE))
    with_parameters = set(re.findall(r"^a=fmtp:(\d+) ", answer, re.MULTILINE))
    lines = []
    for line in answer.split("\r\n"):
        kind, _, rest = line.partition(":")
        payload_type = rest.split(" ", 1)[0]
        if kind == "a=fmtp" and payload_type in codecs:
            line += f";{extra}"
        lines.append(line)
        if kind == "a=rtpmap" and payload_type in codecs - with_parameters:
            lines.append(f"a=fmtp:{payload_type} {extra}")
    return "\r\n".join(lines)


def _may_stay(line: str, loopback_only: bool) -> bool:
    if line.startswith("a=end-of-candidates"):
        # A peer may be learnt from its checks after the last candidate it told us.
        return False
    match = _CANDIDATE.match(line)
    if match is None:
        return not line.startswith("a=candidate:")
    if match["transport"].lower() != "udp":
        return False
    try:
        address = ipaddress.ip_address(match["host"])
    except ValueError:
        # An mDNS name (browsers hide their address so). Resolving it takes a second when nobody answers; the peer's
        # own check, which carries the address, is there sooner.
        return False
    return address.is_loopback or not loopback_only


def _video_of(session: SessionDescription, role: Role) -> MediaDescription:
    wanted = ("sendonly", "sendrecv") if role == "publisher" else ("recvonly", "sendrecv")
    videos = [media for media in session.media if media.kind == "video" and media.port]
    if not videos:
        raise NegotiationError("the SDP offer has no video section: add a video transceiver before making the offer")
    media = next((media for media in videos if (media.direction or "sendrecv") in wanted), None)
    if media is None:
        does = "sends" if role == "publisher" else "receives"
        raise NegotiationError(
            f"no video section of the SDP offer {does} video (direction {videos[0].direction}): "
            f"offer {wanted[0]} for a {role}"
        )
    if not _speaks(media, PUBLISHER_CODECS if role == "publisher" else VIEWER_CODECS):
        offered = ", ".join(sorted({codec.name for codec in media.rtp.codecs if codec.name != "rtx"})) or "none"
        accepted = "H.264 baseline (packetization-mode=1)" + (" or VP8" if role == "publisher" else "")
        raise CodecUnsupported(f"the SDP offer has no {accepted} for video, only {offered}: enable it in the client")
    for section in session.media:
        _check_transport(section)
    return media


def _speaks(media: MediaDescription, codecs: tuple[str, ...]) -> bool:
    return any(codec.name.upper() in codecs and _is_ours(codec) for codec in media.rtp.codecs)


def _is_ours(codec: RTCRtpCodecParameters) -> bool:
    """Not H.264 of another profile or packetization mode: aiortc answers constrained baseline, mode 1 only."""
    if codec.name.upper() != "H264":
        return True
    # Without the parameter RFC 6184 means baseline, and mode 0.
    profile = str(codec.parameters.get("profile-level-id", "42e01f")).lower()
    return profile.startswith("42") and str(codec.parameters.get("packetization-mode", "0")) == "1"


def _check_transport(media: MediaDescription) -> None:
    what = f"the {media.kind} section of the SDP offer"
    if media.ice is None or not media.ice.usernameFragment or not media.ice.password:
        raise NegotiationError(f"{what} has no ICE credentials (a=ice-ufrag, a=ice-pwd): send the complete offer")
    if media.dtls is None or not media.dtls.fingerprints:
        raise NegotiationError(f"{what} has no DTLS fingerprint: only encrypted media is served")
    if media.kind in ("audio", "video") and not media.rtcp_mux:
        raise NegotiationError(f"{what} does not allow RTCP on the same port (a=rtcp-mux): enable it in the client")
