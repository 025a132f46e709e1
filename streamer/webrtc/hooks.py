"""Every touch of aiortc's and aioice's private parts. tests/loopback/test_webrtc_guard.py fails when one of them moves.

Written against aiortc 1.16 and aioice 0.10-1.x. What each hook is for stands at the hook.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aioice.ice
import pylibsrtp
from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCRtpTransceiver, clock
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtcdtlstransport import State
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import RtpPacket

ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
DATAGRAM_BYTES = 2048
"""More than any path carries unfragmented."""
BURST_DATAGRAMS = 64
"""Read at most so many in a row before others have their turn."""
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"


def bind_to(connection: RTCPeerConnection, addresses: Sequence[str]) -> None:
    """Gather host candidates on `addresses` and nowhere else. Call after setRemoteDescription, before gathering.

    aioice takes every address of the machine but 127.0.0.1. The hook sits on this connection's own ICE agents, so that
    other connections of the process are left alone.
    """
    for transport in connection._RTCPeerConnection__iceTransports:  # type: ignore[attr-defined]
        agent = transport._connection
        agent.get_component_candidates = _gathering(agent.get_component_candidates, list(addresses))


def _gathering(stock: Callable[..., Awaitable[Any]], chosen: list[str]) -> Callable[..., Awaitable[Any]]:
    async def get_component_candidates(component: int, addresses: list[str]) -> Any:
        del addresses
        return await stock(component=component, addresses=chosen)

    return get_component_candidates


def host_addresses() -> list[str]:
    """IPv4 addresses of this machine but 127.0.0.1, and its global IPv6 ones."""
    return list(aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=True))


class Wire:
    """The encrypted datagrams of one peer connection, without a task and a queue for each of them.

    aiortc passes every datagram through a queue, a task switch, five coroutines and its own packet objects, which is
    most of the CPU that a stream of ready packets costs. Here RTP goes from the socket to `on_rtp` and from `send_rtp`
    to the socket directly. RTCP, DTLS and STUN keep aiortc's way. Event loop only.
    """

    def __init__(self, transceiver: RTCRtpTransceiver) -> None:
        self._dtls = transceiver.receiver.transport
        self._agent = self._dtls.transport._connection
        self._on_rtp: Callable[[bytes], None] | None = None
        self.heard_at = time.monotonic()
        """`time.monotonic()` when the last datagram of any kind came."""
        for protocol in self._agent._protocols:
            protocol.datagram_received = self._receiver_of(protocol.datagram_received, protocol.transport)
            # asyncio offers 256 KB to the kernel for each datagram, and allocating that takes 19 of 23 microseconds.
            protocol.transport.max_size = DATAGRAM_BYTES

    def listen(self, on_rtp: Callable[[bytes], None]) -> None:
        """Hand each decrypted RTP packet to `on_rtp` instead of to aiortc's receiver."""
        self._on_rtp = on_rtp

    def send_rtp(self, packets: Iterable[bytes]) -> None:
        """Encrypt and send. Raises `ConnectionError` when the connection is gone."""
        sendto, address = self._way_out()
        protect = self._dtls._tx_srtp.protect
        for packet in packets:
            sendto(protect(packet), address)

    def send_rtcp(self, packet: bytes) -> None:
        """Encrypt and send a compound packet. Raises `ConnectionError` when the connection is gone."""
        sendto, address = self._way_out()
        sendto(self._dtls._tx_srtp.protect_rtcp(packet), address)

    @property
    def unsent_bytes(self) -> int:
        """What the socket did not take yet and asyncio holds (without bound, so look before sending more)."""
        pair = self._agent._nominated.get(1)
        if pair is None:
            return 0
        size = getattr(pair.protocol.transport, "get_write_buffer_size", None)
        return int(size()) if size is not None else 0

    def _way_out(self) -> tuple[Callable[[bytes, tuple[str, int]], None], tuple[str, int]]:
        pair = self._agent._nominated.get(1)
        if pair is None or self._dtls._state is not State.CONNECTED:
            raise ConnectionError("not connected")
        return pair.protocol.transport.sendto, pair.remote_addr

    def _receiver_of(self, stock: Callable[[bytes, Any], None], transport: Any) -> Callable[[bytes, Any], None]:
        socket = getattr(transport, "_sock", None)  # not there on relayed ones, nor on other event loops

        def datagram_received(data: bytes, address: Any) -> None:
            self.heard_at = time.monotonic()
            if not self._take(data):
                stock(data, address)
            elif socket is not None:
                # Packets come in bursts, a frame at a time; each would cost a turn of the event loop.
                for _ in range(BURST_DATAGRAMS):
                    try:
                        data, address = socket.recvfrom(DATAGRAM_BYTES)
                    except OSError:
                        return  # no more; a real error comes again to the event loop
                    if not self._take(data):
                        stock(data, address)

        return datagram_received

    def _take(self, data: bytes) -> bool:
        """Whether `data` was RTP for `on_rtp`. RFC 7983: 128..191 is RTP or RTCP; RFC 5761: RTCP has 192..223 next."""
        if self._on_rtp is None or len(data) < 12 or not 128 <= data[0] < 192 or 192 <= data[1] < 224:
            return False
        session = self._dtls._rx_srtp
        if session is not None:
            try:
                packet = session.unprotect(data)
            except pylibsrtp.Error:
                return True  # replayed, forged or for another session: as good as lost
            self._on_rtp(packet)
        return True


@dataclass(frozen=True, slots=True)
class SendParameters:
    """What negotiation settled for the packets of one sender."""

    payload_type: int
    ssrc: int
    rtx_payload_type: int | None
    rtx_ssrc: int
    mid: str
    mid_extension: int | None
    send_time_extension: int | None


class SenderHook:
    """Takes the packets of a sender over from aiortc; its RTCP (sender reports, feedback) stays.

    aiortc would encode once a viewer, ignore keyframe requests for ready packets, and build each packet anew for each
    viewer.

    Args:
        run: called once the connection is up; sends until it is cancelled.
        retransmit: called with the sequence number of each packet that the viewer misses.
        keyframe: called when the viewer asks for a keyframe (PLI, FIR).
    """

    def __init__(
        self,
        transceiver: RTCRtpTransceiver,
        run: Callable[[SendParameters], Awaitable[None]],
        retransmit: Callable[[int], None],
        keyframe: Callable[[], None],
    ) -> None:
        async def on_nack(sequence: int) -> None:
            retransmit(sequence)

        self._transceiver = transceiver
        self._run = run
        sender = cast(Any, transceiver.sender)
        sender._run_rtp = self._run_rtp
        sender._send_keyframe = keyframe
        sender._retransmit = on_nack
        self._sender = sender

    def report(self, rtp_timestamp: int, packets: int, octets: int) -> None:
        """Count what was sent just now, for the sender reports."""
        sender = self._sender
        sender._RTCRtpSender__ntp_timestamp = clock.current_ntp_time()
        sender._RTCRtpSender__rtp_timestamp = rtp_timestamp
        sender._RTCRtpSender__packet_count += packets
        sender._RTCRtpSender__octet_count += octets

    async def _run_rtp(self, codec: Any) -> None:
        # RTCRtpSender.stop waits for both events: whatever happens, they have to be set.
        self._sender._RTCRtpSender__rtp_started.set()
        try:
            await self._run(self._parameters(codec))
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._sender._RTCRtpSender__rtp_exited.set()

    def _parameters(self, codec: Any) -> SendParameters:
        ids = {extension.uri: extension.id for extension in self._transceiver._headerExtensions}
        return SendParameters(
            payload_type=codec.payloadType,
            ssrc=self._sender._ssrc,
            rtx_payload_type=self._sender._RTCRtpSender__rtx_payload_type,
            rtx_ssrc=self._sender._rtx_ssrc,
            mid=self._transceiver.mid or "",
            mid_extension=ids.get(MID),
            send_time_extension=ids.get(ABS_SEND_TIME),
        )


class ReceiverHook:
    """What is left of aiortc's receiver when the packets go elsewhere: receiver reports and the sender's SSRC."""

    def __init__(self, transceiver: RTCRtpTransceiver) -> None:
        self._statistics = transceiver.receiver._RTCRtpReceiver__remote_streams  # type: ignore[attr-defined]
        self._transceiver = transceiver

    @property
    def own_ssrc(self) -> int:
        """The SSRC that our RTCP carries."""
        return int(self._transceiver.sender._ssrc)

    def payload_types(self) -> dict[int, tuple[str, int | None]]:
        """Payload type to codec name in capitals, and for "RTX" the payload type it repairs."""
        types: dict[int, tuple[str, int | None]] = {}
        for codec in self._transceiver._codecs:
            apt = codec.parameters.get("apt")
            types[cast(int, codec.payloadType)] = (codec.name.upper(), apt if isinstance(apt, int) else None)
        return types

    def count(self, ssrc: int, packet: Any) -> None:
        """Count `packet` (`sequence_number`, `timestamp`) for the receiver reports."""
        statistics = self._statistics.get(ssrc)
        if statistics is None:
            statistics = self._statistics[ssrc] = StreamStatistics(90_000)
        statistics.add(packet)


class _MarkerJitterBuffer(JitterBuffer):
    """aiortc's buffer hands a frame over when the next frame's first packet comes: one frame interval late.

    This one does so at the marker bit, which ends a frame (RFC 6184, 7741), as browsers do.
    """

    def _remove_frame(self, sequence_number: int) -> JitterFrame | None:
        del sequence_number
        packets: list[RtpPacket] = []
        for packet in self._contiguous():
            if packets and packet.timestamp != packets[0].timestamp:
                return self._take(packets)
            packets.append(packet)
            if packet.marker:
                return self._take(packets)
        return None

    def _contiguous(self) -> Iterator[RtpPacket]:
        assert self._origin is not None
        for count in range(self._capacity):
            packet = self._packets[(self._origin + count) % self._capacity]
            if packet is None:
                return
            yield packet

    def _take(self, packets: list[RtpPacket]) -> JitterFrame:
        self.remove(len(packets))
        data = b"".join(packet._data for packet in packets)  # type: ignore[attr-defined]
        return JitterFrame(data, packets[0].timestamp)


def complete_on_marker(receiver: RTCRtpReceiver) -> None:
    """Make a stock aiortc video receiver (a viewer of the tests and the benchmark) as quick as a browser."""
    if receiver._RTCRtpReceiver__kind == "video":  # type: ignore[attr-defined]
        receiver._RTCRtpReceiver__jitter_buffer = _MarkerJitterBuffer(512, is_video=True)  # type: ignore[attr-defined]


def first_sequence_number() -> int:
    """Random, in the lower half: SRTP loses its roll-over counter when the first packets wrap (as aiortc does)."""
    return random.getrandbits(15)
