"""Packets and frames: cut, joined, lost, late, out of order."""

from __future__ import annotations

import random

import pytest
from aiortc.codecs.h264 import H264Encoder, h264_depayload
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket

from streamer.webrtc import rtp
from streamer.webrtc.assembler import GIVE_UP_SECONDS, MAX_PACKETS, FrameAssembler
from streamer.webrtc.hooks import ABS_SEND_TIME, MID
from streamer.webrtc.rtp import Packet, join_h264, join_vp8, packetize_h264


def access_unit(seed: int, keyframe: bool, size: int) -> bytes:
    """Annex B bytes that look like x264's: no start code within a NAL unit."""
    noise = random.Random(seed)

    def unit(header: int, length: int) -> bytes:
        return b"\x00\x00\x00\x01" + bytes((header,)) + noise.randbytes(length).replace(b"\x00", b"\x01")

    heads = unit(0x67, 20) + unit(0x68, 4) + unit(0x06, 30) if keyframe else b""
    return heads + unit(0x65 if keyframe else 0x41, size)


@pytest.mark.parametrize("size", [1, 100, 1100, 1196, 1197, 1198, 1199, 1200, 1201, 5000, 60_000])
@pytest.mark.parametrize("keyframe", [True, False])
def test_what_is_cut_joins_again_here_and_in_aiortc(size: int, keyframe: bool) -> None:
    unit = access_unit(size, keyframe, size)
    payloads = packetize_h264(unit)
    assert max(map(len, payloads)) <= rtp.MAX_PAYLOAD
    assert join_h264(payloads) == (unit, keyframe)
    assert b"".join(h264_depayload(payload) for payload in payloads) == unit


def test_what_aiortc_cuts_joins_here() -> None:
    unit = access_unit(1, True, 9000)
    assert join_h264(H264Encoder._packetize(H264Encoder._split_bitstream(unit))) == (unit, True)


def test_headers_and_extensions_read_as_aiortc_reads_them() -> None:
    extensions = rtp.extensions(1, "video0", 3, 1000.25)
    data = rtp.header(99, True, 65_536 + 7, (1 << 32) + 5, 0xDEADBEEF, extensions) + b"payload"
    parameters = RTCRtpParameters(
        headerExtensions=[RTCRtpHeaderExtensionParameters(1, MID), RTCRtpHeaderExtensionParameters(3, ABS_SEND_TIME)]
    )
    table = HeaderExtensionsMap()
    table.configure(parameters)
    packet = RtpPacket.parse(data, table)
    assert (packet.payload_type, packet.marker, packet.sequence_number, packet.timestamp) == (99, 1, 7, 5)
    assert (packet.ssrc, packet.payload) == (0xDEADBEEF, b"payload")
    assert packet.extensions.mid == "video0"
    assert packet.extensions.abs_send_time == int(1000.25 * (1 << 18)) & 0xFFFFFF
    assert rtp.parse(data) == Packet(99, True, 7, 5, 0xDEADBEEF, b"payload")


def test_padding_and_contributors_are_left_out() -> None:
    packet = RtpPacket(payload_type=99, sequence_number=3, timestamp=9, ssrc=1, payload=b"abc")
    packet.csrc = [1, 2, 3]
    packet.padding_size = 5
    assert rtp.parse(packet.serialize()).payload == b"abc"


def test_cut_short_packets_are_refused() -> None:
    whole = rtp.header(99, False, 1, 1, 1, rtp.extensions(1, "0", 3, 0.0))
    for length in range(len(whole)):
        with pytest.raises(ValueError, match="RTP"):
            rtp.parse(whole[:length])
    with pytest.raises(ValueError, match="original sequence"):
        rtp.unwrap_rtx(Packet(100, False, 1, 1, 1, b""), 99, 5)
    for payloads in ([b"\x7c"], [b"\x78\x00\x10abc"], [b"\x78\x00\x00"], [b"\x7f\x00"]):
        with pytest.raises(ValueError, match=r"H\.264|STAP"):
            join_h264(payloads)
    for payload in (b"", b"\x80", b"\x80\x80"):
        with pytest.raises(ValueError, match="VP8"):
            join_vp8([payload])


@pytest.mark.parametrize("picture_id", [None, 5, 4000])
def test_vp8_descriptors_of_every_length_are_skipped(picture_id: int | None) -> None:
    for tl0 in (None, 7):
        descriptor = bytes(
            VpxPayloadDescriptor(partition_start=1, partition_id=0, picture_id=picture_id, tl0picidx=tl0)
        )
        assert join_vp8([descriptor + b"\x00abc", bytes(VpxPayloadDescriptor(0, 0)) + b"def"]) == (b"\x00abcdef", True)
        assert join_vp8([descriptor + b"\x01abc"])[1] is False


class Feed:
    """Packets of numbered frames: `keyframe` of the first, `size` packets each."""

    def __init__(self, frames: int, packets: int = 3, start: int = 65_530, keyframes: tuple[int, ...] = (0,)) -> None:
        self.packets: list[Packet] = []
        self.units: list[bytes] = []
        sequence = start
        for number in range(frames):
            unit = access_unit(number, number in keyframes, 1190 * (packets - 1) + 500)
            payloads = packetize_h264(unit)
            self.units.append(unit)
            for position, payload in enumerate(payloads):
                last = position == len(payloads) - 1
                self.packets.append(Packet(99, last, sequence % 65_536, number * 3000, 1, payload))
                sequence += 1


def frames_of(assembler: FrameAssembler, packets: list[Packet], now: float = 0.0) -> list[bytes]:
    return [frame.data for packet in packets for frame in assembler.add(packet, "H264", now)]


def test_a_frame_is_complete_with_its_marker_across_the_wrap() -> None:
    feed = Feed(6)
    assembler = FrameAssembler()
    for packet in feed.packets:
        frames = assembler.add(packet, "H264", 0.0)
        assert len(frames) == packet.marker
    assert not assembler.wants_keyframe
    assert assembler.lost == 0


def test_packets_in_any_order_within_a_frame_and_twice_give_the_same_frames() -> None:
    feed = Feed(20, packets=4)
    first, *rest = feed.packets
    noise = random.Random(3)
    shuffled = [first]
    for at in range(0, len(rest), 6):
        group = rest[at : at + 6]
        noise.shuffle(group)
        shuffled += group + group[:2]
    assert frames_of(FrameAssembler(), shuffled) == feed.units


def test_nothing_comes_before_a_keyframe() -> None:
    feed = Feed(6, keyframes=(3,))
    assembler = FrameAssembler()
    assert frames_of(assembler, feed.packets) == feed.units[3:]


def test_a_keyframe_without_its_beginning_does_not_count() -> None:
    feed = Feed(4, packets=5, keyframes=(0, 2))
    assembler = FrameAssembler()
    assert frames_of(assembler, feed.packets[3:]) == feed.units[2:]


def test_a_resent_packet_frees_everything_behind_it() -> None:
    feed = Feed(5)
    late = feed.packets.pop(4)
    assembler = FrameAssembler()
    assert frames_of(assembler, feed.packets) == feed.units[:1]
    assert assembler.missing(0.0) == [late.sequence_number]
    assert assembler.missing(0.01) == [], "asked for a moment ago"
    assert assembler.missing(0.06) == [late.sequence_number]
    assert frames_of(assembler, [late]) == feed.units[1:]
    assert assembler.missing(1.0) == []


def test_a_loss_ends_at_the_next_keyframe_and_nothing_smeared_comes_out() -> None:
    feed = Feed(12, keyframes=(0, 8))
    lost = feed.packets[7]
    assembler = FrameAssembler()
    out: list[bytes] = []
    for number, packet in enumerate(feed.packets):
        if packet is not lost:
            out += frames_of(assembler, [packet], now=number * GIVE_UP_SECONDS / 6)
    number_of_lost = next(n for n, unit in enumerate(feed.units) if lost.timestamp == n * 3000)
    assert out == feed.units[:number_of_lost] + feed.units[8:]
    assert assembler.lost == 1
    assert not assembler.wants_keyframe


def test_a_jump_of_the_sequence_and_a_new_ssrc_start_anew() -> None:
    assembler = FrameAssembler()
    old, jumped = Feed(2), Feed(2, start=30_000)
    assert frames_of(assembler, old.packets) == old.units
    assert frames_of(assembler, jumped.packets) == jumped.units
    other = Feed(2, start=5)
    for packet in other.packets:
        packet.ssrc = 2
    assert frames_of(assembler, other.packets) == other.units


def test_memory_is_bounded_behind_a_hole() -> None:
    assembler = FrameAssembler()
    feed = Feed(1500, packets=2)
    del feed.packets[4]
    frames_of(assembler, feed.packets)
    assert len(assembler._packets) <= MAX_PACKETS
