"""H.264 in RTP packets and VP8/H.264 out of them. Bytes in, bytes out: no sockets, no clocks.

RFC 3550 (RTP), RFC 6184 (H.264), RFC 7741 (VP8), RFC 4588 (retransmission), RFC 8285 (header extensions).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_PAYLOAD = 1200
"""Bytes. With SRTP, UDP and IPv6 headers it stays under the 1280 that every path carries."""
_STAP_A, _FU_A = 24, 28
_IDR, _SPS = 5, 7
_FIXED = struct.Struct("!BBHLL")
_START = b"\x00\x00\x00\x01"
SEQUENCES = 1 << 16


def newer(a: int, b: int) -> bool:
    """Sequence number `a` comes after `b`, across the wrap at 2**16."""
    return 0 < (a - b) % SEQUENCES < SEQUENCES // 2


@dataclass(slots=True)
class Packet:
    """One received RTP packet."""

    payload_type: int
    marker: bool
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse(data: bytes) -> Packet:
    """The packet in `data` (decrypted). Raises `ValueError` when it is cut short."""
    if len(data) < 12:
        raise ValueError("RTP packet shorter than its header")
    first, second, sequence, timestamp, ssrc = _FIXED.unpack_from(data)
    start = 12 + 4 * (first & 0x0F)
    if first & 0x10:
        if len(data) < start + 4:
            raise ValueError("RTP packet cut in its extension")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    end = len(data)
    if first & 0x20:
        end -= data[-1]
    if end < start:
        raise ValueError("RTP packet shorter than its header says")
    return Packet(second & 0x7F, second > 127, sequence, timestamp, ssrc, data[start:end])


def unwrap_rtx(packet: Packet, payload_type: int, ssrc: int) -> Packet:
    """The original of a retransmission. Raises `ValueError` for an empty one (Chromium probes with those)."""
    if len(packet.payload) < 2:
        raise ValueError("retransmission without the original sequence number")
    sequence = int.from_bytes(packet.payload[:2], "big")
    return Packet(payload_type, packet.marker, sequence, packet.timestamp, ssrc, packet.payload[2:])


def header(payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int, extension: bytes) -> bytes:
    """An RTP header; `extension` as `extensions` made it, or empty."""
    first = 0x90 if extension else 0x80
    return (
        _FIXED.pack(first, payload_type | marker << 7, sequence % SEQUENCES, timestamp & 0xFFFFFFFF, ssrc) + extension
    )


def extensions(mid_id: int | None, mid: str, send_time_id: int | None, seconds: float) -> bytes:
    """One-byte header extensions: the media id and the sending time (24 bits, 6.18 fixed point seconds)."""
    body = b""
    name = mid.encode()
    if mid_id is not None and 1 <= len(name) <= 16:
        body += bytes((mid_id << 4 | len(name) - 1,)) + name
    if send_time_id is not None:
        body += bytes((send_time_id << 4 | 2,)) + (int(seconds * (1 << 18)) & 0xFFFFFF).to_bytes(3, "big")
    if not body:
        return b""
    body += bytes(-len(body) % 4)
    return struct.pack("!HH", 0xBEDE, len(body) // 4) + body


def split_h264(data: bytes) -> Iterator[bytes]:
    """NAL units of an Annex B access unit, without start codes."""
    start = data.find(b"\x00\x00\x01")
    while start != -1:
        start += 3
        following = data.find(b"\x00\x00\x01", start)
        end = len(data) if following == -1 else following - (data[following - 1] == 0)
        if end > start:
            yield data[start:end]
        start = following


def packetize_h264(data: bytes) -> list[bytes]:
    """RTP payloads of one Annex B access unit (packetization-mode 1): single NAL units, STAP-A, FU-A.

    Small NAL units (SPS, PPS, SEI, and a slice that still fits) share a packet; large ones are cut in even parts.
    """
    payloads: list[bytes] = []
    together: list[bytes] = []
    room = MAX_PAYLOAD - 1

    def flush() -> None:
        nonlocal room
        if len(together) == 1:
            payloads.append(together[0])
        elif together:
            importance = max(unit[0] & 0x60 for unit in together)
            joined = b"".join(len(unit).to_bytes(2, "big") + unit for unit in together)
            payloads.append(bytes((importance | _STAP_A,)) + joined)
        together.clear()
        room = MAX_PAYLOAD - 1

    for unit in split_h264(data):
        if len(unit) + 2 > room:
            flush()
        if len(unit) <= MAX_PAYLOAD - 3:
            together.append(unit)
            room -= len(unit) + 2
        else:
            payloads.extend(_cut(unit))
    flush()
    return payloads


def _cut(unit: bytes) -> Iterator[bytes]:
    """FU-A fragments of one NAL unit, all of about the same size."""
    size = len(unit) - 1
    count = -(-size // (MAX_PAYLOAD - 2))
    indicator, kind = unit[0] & 0xE0 | _FU_A, unit[0] & 0x1F
    for part in range(count):
        start, end = 1 + size * part // count, 1 + size * (part + 1) // count
        flags = 0x80 if part == 0 else 0x40 if part == count - 1 else 0
        yield bytes((indicator, flags | kind)) + unit[start:end]


def join_h264(payloads: list[bytes]) -> tuple[bytes, bool]:
    """The Annex B access unit of a frame's payloads, and whether it is a keyframe.

    Raises:
        ValueError: a payload is cut short or of a kind that packetization-mode 1 does not have.
    """
    parts: list[bytes] = []
    keyframe = False
    for payload in payloads:
        if len(payload) < 2:
            raise ValueError("H.264 payload shorter than its header")
        kind = payload[0] & 0x1F
        if kind == _FU_A:
            if payload[1] & 0x80:
                parts += (_START, bytes((payload[0] & 0xE0 | payload[1] & 0x1F,)))
                keyframe |= payload[1] & 0x1F == _IDR
            parts.append(payload[2:])
        elif kind == _STAP_A:
            for unit in _unpack_stap(payload):
                keyframe |= unit[0] & 0x1F in (_IDR, _SPS)
                parts += (_START, unit)
        elif 1 <= kind <= 23:
            keyframe |= kind in (_IDR, _SPS)
            parts += (_START, payload)
        else:
            raise ValueError(f"H.264 payload of type {kind}")
    return b"".join(parts), keyframe


def _unpack_stap(payload: bytes) -> Iterator[bytes]:
    position = 1
    while position < len(payload):
        size = int.from_bytes(payload[position : position + 2], "big")
        unit = payload[position + 2 : position + 2 + size]
        if not unit or len(unit) < size:
            raise ValueError("STAP-A cut short")
        yield unit
        position += 2 + size


def join_vp8(payloads: list[bytes]) -> tuple[bytes, bool]:
    """The VP8 frame of a frame's payloads, and whether it is a keyframe. Raises `ValueError` when one is cut short."""
    data = b"".join(payload[_vp8_descriptor(payload) :] for payload in payloads)
    # RFC 7741 section 4.3: the inverse key frame flag is the lowest bit of the frame's first byte.
    return data, bool(data) and not data[0] & 1


def _vp8_descriptor(payload: bytes) -> int:
    """Length of the payload descriptor (RFC 7741 section 4.2)."""
    try:
        position = 1
        if payload[0] & 0x80:
            bits = payload[1]
            position = 2
            if bits & 0x80:
                position += 2 if payload[position] & 0x80 else 1
            position += bool(bits & 0x40) + bool(bits & 0x30)
    except IndexError as exc:
        raise ValueError("VP8 payload shorter than its descriptor") from exc
    return position
