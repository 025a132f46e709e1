"""Whole coded frames from the RTP packets of one video, in order, as soon as each is complete."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.webrtc.rtp import SEQUENCES, Packet, join_h264, join_vp8, newer

_JOIN = {"H264": join_h264, "VP8": join_vp8}
GIVE_UP_SECONDS = 0.15
"""How long a missing packet holds frames up: longer than a resend takes on a good path, no longer than one notices."""
MAX_PACKETS = 1024
"""Packets that may wait behind a missing one (a keyframe of 1 MB)."""
RESEND_SECONDS = 0.04
"""Between two requests for the same missing packet."""


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """One frame as the publisher encoded it."""

    codec: str
    """"H264" (Annex B) or "VP8"."""
    data: bytes
    keyframe: bool
    timestamp: int
    """RTP timestamp, 1/90000 s, wraps at 2**32."""


class FrameAssembler:
    """Orders packets, completes a frame on its marker bit, and after a loss starts again at a keyframe.

    A decoder that is fed past a loss shows smeared pictures, and masks of smeared pictures are wrong; so nothing
    between a loss and the next keyframe comes out. Bound: `MAX_PACKETS`. Not thread-safe.
    """

    def __init__(self) -> None:
        self._packets: dict[int, tuple[Packet, str]] = {}
        self._ssrc: int | None = None
        self._next = 0
        self._newest = 0
        self._scanned = 0
        self._gap_since: float | None = None
        self._asked_at = 0.0
        self.wants_keyframe = True
        """Nothing can come out before a keyframe: ask for one."""
        self.lost = 0
        """Frames given up because a packet of theirs never came, or was no proper payload."""

    def add(self, packet: Packet, codec: str, now: float) -> list[CodedFrame]:
        """Frames that `packet` completes, oldest first.

        Args:
            codec: "H264" or "VP8", by the packet's payload type.
            now: seconds of any steady clock.
        """
        if self._ssrc != packet.ssrc:
            self._restart(packet)
        sequence = packet.sequence_number
        if newer(self._next, sequence) or sequence in self._packets:
            return []
        if (sequence - self._next) % SEQUENCES >= MAX_PACKETS:
            self.lost += 1
            self._restart(packet)
        self._packets[sequence] = (packet, codec)
        if newer(sequence, self._newest):
            self._newest = sequence
        frames = self._complete()
        if not self._holes():
            self._gap_since = None
        elif self._gap_since is None:
            self._gap_since, self._asked_at = now, now - RESEND_SECONDS
        elif now - self._gap_since > GIVE_UP_SECONDS:
            self._lose()
            frames += self._complete()
        return frames

    def missing(self, now: float) -> list[int]:
        """Sequence numbers to ask for again now; empty while the last request is still fresh."""
        if not self._holes() or now - self._asked_at < RESEND_SECONDS:
            return []
        self._asked_at = now
        count = (self._newest - self._next) % SEQUENCES
        return [n for i in range(count) if (n := (self._next + i) % SEQUENCES) not in self._packets]

    def _holes(self) -> bool:
        return len(self._packets) != (self._newest + 1 - self._next) % SEQUENCES

    def _restart(self, packet: Packet) -> None:
        self._packets.clear()
        self._ssrc = packet.ssrc
        self._next = self._newest = packet.sequence_number
        self._scanned = 0
        self._gap_since = None
        self.wants_keyframe = True

    def _complete(self) -> list[CodedFrame]:
        """Take every whole frame from the front."""
        frames: list[CodedFrame] = []
        while (count := self._front()) > 0:
            taken = [self._packets.pop((self._next + i) % SEQUENCES) for i in range(count)]
            self._next = (self._next + count) % SEQUENCES
            self._scanned = 0
            frame = self._join(taken)
            if frame is not None:
                frames.append(frame)
        return frames

    def _front(self) -> int:
        """Number of packets of the whole frame at the front; 0: it is not whole yet."""
        first = self._packets.get(self._next)
        if first is None:
            return 0
        # Packets looked at before are not looked at again: a keyframe has hundreds.
        while (entry := self._packets.get((self._next + self._scanned) % SEQUENCES)) is not None:
            if entry[0].timestamp != first[0].timestamp:
                return self._scanned
            self._scanned += 1
            if entry[0].marker:
                return self._scanned
        return 0

    def _join(self, taken: list[tuple[Packet, str]]) -> CodedFrame | None:
        payloads = [packet.payload for packet, _ in taken if packet.payload]
        if not payloads:
            return None  # padding, sent to probe the path
        codec = taken[0][1]
        try:
            data, keyframe = _JOIN[codec](payloads)
        except ValueError:
            self.lost += 1
            self.wants_keyframe = True
            return None
        if self.wants_keyframe:
            if not keyframe:
                return None
            self.wants_keyframe = False
        return CodedFrame(codec, data, keyframe, taken[0][0].timestamp)

    def _lose(self) -> None:
        """Give up on what is missing: go on after the newest frame that lacks a packet."""
        self.lost += 1
        self.wants_keyframe = True
        self._gap_since = None
        run = [self._newest]
        while (before := (run[-1] - 1) % SEQUENCES) in self._packets:
            run.append(before)
        start = run[-1]
        # The first frame of the unbroken run may lack its beginning: skip to the packet after a marker.
        for sequence in reversed(run):
            entry = self._packets.get(sequence)
            if entry is not None and entry[0].marker:
                start = (sequence + 1) % SEQUENCES
                break
        for sequence in [n for n in self._packets if newer(start, n)]:
            del self._packets[sequence]
        self._next = start
        self._scanned = 0
