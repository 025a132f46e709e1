"""A publisher's video: packets in, coded frames out, with the feedback that keeps a browser at full quality."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    pack_remb_fci,
)

from streamer.webrtc.assembler import CodedFrame, FrameAssembler
from streamer.webrtc.hooks import ReceiverHook, Wire
from streamer.webrtc.rtp import parse, unwrap_rtx

KEYFRAME_SECONDS = 0.3
"""Least time between two requests for a keyframe."""
REMB_SECONDS = 0.5
"""Between two bandwidth reports; browsers forget one after some seconds."""
MAX_NACK = 200
"""Sequence numbers in one request for resends; with more missing a keyframe is cheaper."""


class IncomingVideo:
    """Receives one video. Calls `on_frame` in the event loop for each frame, in order. Event loop only.

    A fixed bandwidth is reported (REMB) instead of an estimate: with one, browsers start at 0.3 Mb/s and climb for half
    a minute, and they still lower the rate by themselves when packets get lost.
    """

    def __init__(
        self,
        wire: Wire,
        hook: ReceiverHook,
        on_frame: Callable[[CodedFrame], None],
        max_bit_rate: int,
    ) -> None:
        self._wire = wire
        self._hook = hook
        self._on_frame = on_frame
        self._max_bit_rate = max_bit_rate
        self._types = hook.payload_types()
        self._assembler = FrameAssembler()
        self._media_ssrc: int | None = None
        self._media_type: int | None = None
        self._asked_at = self._reported_at = 0.0
        self.heard_at = time.monotonic()
        """`time.monotonic()` of the last packet of this video."""
        wire.listen(self._receive)

    @property
    def lost(self) -> int:
        """Frames that never became whole."""
        return self._assembler.lost

    def request_keyframe(self) -> None:
        """Ask the publisher for a keyframe (PLI), at most one in 0.3 s."""
        now = time.monotonic()
        if self._media_ssrc is None or now - self._asked_at < KEYFRAME_SECONDS:
            return
        self._asked_at = now
        self._feed_back(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=self._hook.own_ssrc, media_ssrc=self._media_ssrc))

    def _receive(self, data: bytes) -> None:
        try:
            packet = parse(data)
            codec, repairs = self._types.get(packet.payload_type, (None, None))
            if codec is None:
                return  # sound, or a codec that was not settled on
            self._hook.count(packet.ssrc, packet)
            if repairs is not None:
                if repairs != self._media_type or self._media_ssrc is None:
                    return
                packet = unwrap_rtx(packet, repairs, self._media_ssrc)
                codec = self._types[repairs][0]
        except ValueError:
            return
        now = self.heard_at = time.monotonic()
        self._media_ssrc, self._media_type = packet.ssrc, packet.payload_type
        if now - self._reported_at > REMB_SECONDS:
            self._reported_at = now
            remb = pack_remb_fci(self._max_bit_rate, [packet.ssrc])
            self._feed_back(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=self._hook.own_ssrc, media_ssrc=0, fci=remb))
        for frame in self._assembler.add(packet, codec, now):
            self._on_frame(frame)
        missing = self._assembler.missing(now)
        if 0 < len(missing) <= MAX_NACK:
            self._feed_back(
                RtcpRtpfbPacket(
                    fmt=RTCP_RTPFB_NACK, ssrc=self._hook.own_ssrc, media_ssrc=packet.ssrc, lost=sorted(missing)
                )
            )
        if self._assembler.wants_keyframe:
            self.request_keyframe()

    def _feed_back(self, packet: RtcpPsfbPacket | RtcpRtpfbPacket) -> None:
        with contextlib.suppress(ConnectionError):  # going down; the peer will end by itself
            self._wire.send_rtcp(bytes(packet))
