"""Viewers of one stream (WHEP): the encoder's packets to any number of peer connections."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from aiortc import RTCRtpTransceiver

from streamer.egress.encoder import EncodedFrame, StreamEncoder
from streamer.errors import LimitReached, SessionUnknown, StreamConflict
from streamer.service.settings import Settings
from streamer.webrtc.hooks import SenderHook, SendParameters
from streamer.webrtc.outgoing import OutgoingVideo
from streamer.webrtc.peers import Network, Peer
from streamer.webrtc.rtp import packetize_h264

QUEUE_FRAMES = 8
"""Frames that may wait for one viewer: a quarter second. More would only be seen late."""
UNSENT_BYTES = 128 * 1024
"""With more in the socket's way the viewer's queue waits, and overflows if need be."""
SILENT_SECONDS = 12.0
"""Viewers send reports about once a second and ICE checks every 2.5 s (browsers) to 5 s (aiortc)."""
_BLOCKED_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class _Payloads:
    """One frame cut into RTP payloads, shared by all viewers."""

    payloads: list[bytes]
    keyframe: bool
    pts: int


class Viewers:
    """All viewers of one stream; one sink of its encoder. Event loop only.

    Each viewer has a queue of its own. Bound: 8 frames. Policy: on overflow it is cleared and the viewer waits for a
    keyframe, which is asked for; `dropped` counts what did not go out.
    """

    def __init__(self, encoder: StreamEncoder, settings: Settings) -> None:
        self._encoder = encoder
        self._network = Network.of(settings)
        self._max_viewers = settings.service.max_viewers
        self._viewers: dict[str, _Viewer] = {}
        self._ending: set[_Viewer] = set()
        self._pending = 0
        self._watching: tuple[_Viewer, ...] = ()
        self._dropped = 0
        self._closed = False

    @property
    def count(self) -> int:
        """Viewers whose connection is up or being made."""
        return len(self._viewers)

    @property
    def dropped(self) -> int:
        """Frames that any viewer, present or gone, did not get because its queue ran over."""
        return self._dropped + sum(viewer.dropped for viewer in self._viewers.values())

    async def answer(self, offer_sdp: str) -> tuple[str, str]:
        """Answer a viewer's offer: (session id, SDP answer).

        Raises:
            NegotiationError: the offer cannot be answered.
            LimitReached: as many viewers as the settings allow.
            StreamConflict: the stream is ending.
        """
        if self._closed:
            raise StreamConflict("the stream is ending; it takes no more viewers")
        if len(self._viewers) + self._pending >= self._max_viewers:
            raise LimitReached(
                f"this stream has {self._max_viewers} viewers, as many as service.max_viewers allows; close one first"
            )
        viewer = _Viewer(self)
        self._pending += 1
        try:
            await viewer.open(self._network, offer_sdp)
        finally:
            self._pending -= 1
        if self._closed:
            await viewer.peer.aclose()
            raise StreamConflict("the stream ended while the viewer was joining")
        self._viewers[viewer.peer.id] = viewer
        return viewer.peer.id, viewer.peer.answer_sdp

    async def end(self, session_id: str) -> None:
        """End one viewer. Raises `SessionUnknown` where there is none of that id."""
        viewer = self._viewers.get(session_id)
        if viewer is None:
            raise SessionUnknown(f"no viewer {session_id}; it may have ended already")
        await viewer.peer.aclose()

    async def aclose(self) -> None:
        """End all viewers and wait for it. Twice is fine."""
        self._closed = True
        self._encoder.remove_sink(self)
        peers = [viewer.peer for viewer in (*self._viewers.values(), *self._ending)]
        await asyncio.gather(*(peer.aclose() for peer in peers))
        self._ending.clear()

    # PacketSink

    @property
    def wants_result(self) -> bool:
        return False

    def put(self, frame: EncodedFrame) -> None:
        """Queue one frame for every viewer; it is cut into payloads once."""
        cut = _Payloads(packetize_h264(frame.data), frame.keyframe, frame.pts)
        for viewer in self._watching:
            viewer.put(cut)

    def closed(self) -> None:
        """The encoder ended: so do the viewers."""
        for viewer in tuple(self._viewers.values()):
            viewer.peer.end("the stream ended")

    # From the viewers

    def request_keyframe(self) -> None:
        self._encoder.request_keyframe()

    def watching(self, viewer: _Viewer, yes: bool) -> None:
        """A connection came up or went down; without any the encoder need not encode for us."""
        others = tuple(v for v in self._watching if v is not viewer)
        self._watching = (*others, viewer) if yes else others
        if yes:
            self._encoder.add_sink(self)
        elif not self._watching:
            self._encoder.remove_sink(self)

    def ended(self, viewer: _Viewer) -> None:
        """The viewer's connection began to close."""
        self.watching(viewer, False)
        if self._viewers.pop(viewer.peer.id, None) is not None:
            self._dropped += viewer.dropped
        self._ending = {v for v in self._ending if not v.peer.gone} | {viewer}


class _Viewer:
    """One viewer: its connection and its queue."""

    def __init__(self, viewers: Viewers) -> None:
        self._viewers = viewers
        self._frames: deque[_Payloads] = deque()
        self._more = asyncio.Event()
        self._starved = True
        self._hook: SenderHook | None = None
        self._out: OutgoingVideo | None = None
        self._peer: Peer | None = None
        self.dropped = 0

    @property
    def peer(self) -> Peer:
        assert self._peer is not None
        return self._peer

    async def open(self, network: Network, offer_sdp: str) -> None:
        """Answer `offer_sdp`. Raises `NegotiationError`."""
        await Peer.answer(
            network,
            offer_sdp,
            "viewer",
            prepare=self._prepare,
            on_end=lambda reason: self._viewers.ended(self),
            silent_seconds=SILENT_SECONDS,
        )

    def put(self, cut: _Payloads) -> None:
        """Queue a frame; one that depends on a dropped one is dropped too, until a keyframe."""
        if self._starved and not cut.keyframe:
            self.dropped += 1
            return
        if len(self._frames) >= QUEUE_FRAMES:
            self.dropped += len(self._frames)
            self._frames.clear()
            if not cut.keyframe:
                self.dropped += 1
                self._starved = True
                self._viewers.request_keyframe()
                return
        self._starved = False
        self._frames.append(cut)
        self._more.set()

    def _prepare(self, peer: Peer, transceiver: RTCRtpTransceiver) -> None:
        self._peer = peer
        self._hook = SenderHook(transceiver, self._run, self._resend, self._viewers.request_keyframe)

    def _resend(self, sequence: int) -> None:
        if self._out is not None:
            self._out.resend(sequence)

    async def _run(self, parameters: SendParameters) -> None:
        """Send until the connection ends: aiortc's own sending task, once the connection is up."""
        assert self._hook is not None
        wire = self.peer.wire
        self._out = OutgoingVideo(wire, self._hook, parameters)
        self._viewers.watching(self, True)
        try:
            while True:
                await self._more.wait()
                self._more.clear()
                while self._frames:
                    if wire.unsent_bytes > UNSENT_BYTES:
                        await asyncio.sleep(_BLOCKED_SECONDS)
                        continue
                    cut = self._frames.popleft()
                    self._out.send(cut.payloads, cut.pts)
        finally:
            self._viewers.watching(self, False)
