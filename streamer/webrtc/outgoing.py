"""Ready packets to one viewer: RTP headers, resends, counts."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from streamer.webrtc.hooks import SenderHook, SendParameters, Wire, first_sequence_number
from streamer.webrtc.rtp import SEQUENCES, extensions, header

HISTORY_PACKETS = 512
"""Packets kept for resends: a second of 4 Mb/s. A power of two, so that slots stay right across the wrap."""


class OutgoingVideo:
    """Numbers and sends the payloads of frames, which are shared by all viewers. Event loop only."""

    def __init__(self, wire: Wire, hook: SenderHook, parameters: SendParameters) -> None:
        self._wire = wire
        self._hook = hook
        self._parameters = parameters
        self._sequence = first_sequence_number()
        self._rtx_sequence = first_sequence_number()
        self._origin = random.getrandbits(32)
        self._history: list[tuple[int, int, bool, bytes] | None] = [None] * HISTORY_PACKETS

    def send(self, payloads: Sequence[bytes], pts: int) -> None:
        """Send one frame.

        Args:
            payloads: of `packetize_h264`.
            pts: 1/90000 s.

        Raises:
            ConnectionError: the viewer has gone.
        """
        settled = self._parameters
        timestamp = (self._origin + pts) & 0xFFFFFFFF
        extension = self._extension()
        packets = []
        last = len(payloads) - 1
        for number, payload in enumerate(payloads):
            sequence = self._sequence
            marker = number == last
            packets.append(header(settled.payload_type, marker, sequence, timestamp, settled.ssrc, extension) + payload)
            self._history[sequence % HISTORY_PACKETS] = (sequence, timestamp, marker, payload)
            self._sequence = (sequence + 1) % SEQUENCES
        self._wire.send_rtp(packets)
        self._hook.report(timestamp, len(payloads), sum(map(len, payloads)))

    def resend(self, sequence: int) -> None:
        """Send a packet again if it is still there: as RTX (RFC 4588) where negotiated, else as it was."""
        entry = self._history[sequence % HISTORY_PACKETS]
        if entry is None or entry[0] != sequence:
            return
        _, timestamp, marker, payload = entry
        settled = self._parameters
        if settled.rtx_payload_type is None:
            head = header(settled.payload_type, marker, sequence, timestamp, settled.ssrc, self._extension())
        else:
            head = header(
                settled.rtx_payload_type,
                marker,
                self._rtx_sequence,
                timestamp,
                settled.rtx_ssrc,
                self._extension(),
            ) + sequence.to_bytes(2, "big")
            self._rtx_sequence = (self._rtx_sequence + 1) % SEQUENCES
        self._wire.send_rtp((head + payload,))

    def _extension(self) -> bytes:
        settled = self._parameters
        return extensions(settled.mid_extension, settled.mid, settled.send_time_extension, time.time())
