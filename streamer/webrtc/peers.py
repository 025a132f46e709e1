"""One peer connection from its offer to its end, and the network that it may use."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aiortc import (
    InvalidAccessError,
    InvalidStateError,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.exceptions import InternalError, OperationError
from aiortc.rtcicetransport import connection_kwargs

from streamer.errors import ConfigError, NegotiationError
from streamer.service.settings import Settings
from streamer.webrtc.hooks import Wire, bind_to, host_addresses
from streamer.webrtc.sdp import PUBLISHER_CODECS, VIEWER_CODECS, Offer, Role, read_offer

log = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0
"""A peer that is not connected by then is closed."""
CLOSE_SECONDS = 5.0
"""Bound on closing one connection."""
_WATCH_SECONDS = 1.0
_AIORTC_ERRORS = (
    InternalError, InvalidAccessError, InvalidStateError, OperationError, ValueError, LookupError, AssertionError
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Network:
    """Where peers may reach us."""

    addresses: tuple[str, ...]
    """Host candidates are gathered on these IP addresses only."""
    loopback_only: bool
    ice_servers: tuple[RTCIceServer, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Network:
        """The network of `settings`: WebRTC follows the binding of HTTP.

        Chosen interfaces win; bound to loopback it is loopback; bound to one address it is that one; else all.

        Raises:
            ConfigError: an interface is no address of this machine, or an ICE server's URL is malformed.
        """
        servers = tuple(RTCIceServer(s.urls, s.username, s.credential) for s in settings.webrtc.ice_servers)
        try:
            connection_kwargs(list(servers))
        except ValueError as exc:
            raise ConfigError(
                f"webrtc.ice_servers: {exc}; write stun:HOST:PORT, turn:HOST:PORT or turns:HOST:PORT?transport=tcp"
            ) from exc
        for address in settings.webrtc.interfaces:
            _check_local(address)
        if settings.webrtc.interfaces:
            addresses = tuple(settings.webrtc.interfaces)
        elif settings.on_loopback:
            addresses = ("127.0.0.1",)
        else:
            addresses = _bound_to(settings.service.host)
        loopback = all(ipaddress.ip_address(address).is_loopback for address in addresses)
        return cls(addresses, loopback and not servers, servers)

    def configuration(self) -> RTCConfiguration:
        """For aiortc; an empty list of servers, not None, which would mean a public STUN server."""
        return RTCConfiguration(iceServers=list(self.ice_servers))


def _bound_to(host: str) -> tuple[str, ...]:
    try:
        if not ipaddress.ip_address(host).is_unspecified:
            return (host,)
    except ValueError:
        pass  # a name: every interface
    return tuple(host_addresses()) or ("127.0.0.1",)


def _check_local(address: str) -> None:
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except (ValueError, OSError) as exc:
        here = ", ".join(["127.0.0.1", *host_addresses()])
        raise ConfigError(
            f"webrtc.interfaces: {address} is not an address of this machine ({exc}); it has {here}"
        ) from exc


class Peer:
    """A peer connection that ends itself when it fails, never connects, falls silent, or is closed by the other side.

    Lives in the event loop. `on_end(reason)` is called once, when the end begins; `aclose` waits until it is complete.
    """

    def __init__(self, connection: RTCPeerConnection, silent_seconds: float, on_end: Callable[[str], None]) -> None:
        self.id = secrets.token_urlsafe(12)
        self.answer_sdp = ""
        self._connection = connection
        self._wire: Wire | None = None
        self._silent_seconds = silent_seconds
        self._on_end = on_end
        self._opened_at = time.monotonic()
        self._ended = False
        self._closing: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None

    @classmethod
    async def answer(
        cls,
        network: Network,
        offer_sdp: str,
        role: Role,
        *,
        prepare: Callable[[Peer, RTCRtpTransceiver], None],
        on_end: Callable[[str], None],
        silent_seconds: float,
    ) -> Peer:
        """Answer `offer_sdp`; the answer is in `answer_sdp`.

        Args:
            prepare: called with the video transceiver before anything is negotiated, to hook its sender or receiver.
            silent_seconds: a connected peer that sends nothing at all for so long has gone.

        Raises:
            NegotiationError: the offer cannot be answered; no connection is left behind.
        """
        offer = read_offer(offer_sdp, role, network.loopback_only)
        peer = cls(RTCPeerConnection(network.configuration()), silent_seconds, on_end)
        peer._connection.on("connectionstatechange", peer._state_changed)
        try:
            await peer._negotiate(network, offer, role, prepare)
        except BaseException as exc:
            peer._on_end = _nobody
            await peer.aclose()
            if isinstance(exc, _AIORTC_ERRORS):
                why = str(exc) or "it contradicts itself"
                raise NegotiationError(f"the SDP offer cannot be answered: {why}; make a new offer") from exc
            raise
        peer._watch = asyncio.get_running_loop().call_later(_WATCH_SECONDS, peer._look)
        return peer

    async def _negotiate(
        self, network: Network, offer: Offer, role: Role, prepare: Callable[[Peer, RTCRtpTransceiver], None]
    ) -> None:
        direction: Literal["recvonly", "sendonly"] = "recvonly" if role == "publisher" else "sendonly"
        codecs = PUBLISHER_CODECS if role == "publisher" else VIEWER_CODECS
        # The transceiver and its codecs come before the offer: aiortc settles the codec while it reads the offer.
        video = self._connection.addTransceiver("video", direction=direction)
        capabilities = RTCRtpReceiver.getCapabilities("video")
        assert capabilities is not None
        offered = capabilities.codecs
        ranked = [codec for name in codecs for codec in offered if codec.name.upper() == name]
        video.setCodecPreferences(ranked + [codec for codec in offered if codec.name.lower() == "rtx"])
        prepare(self, video)
        await self._connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        for transceiver in self._connection.getTransceivers():
            if transceiver is not video:
                transceiver.direction = "inactive"
        if video.mid != offer.mid:
            raise NegotiationError("the first video section of the SDP offer must be the one to use: put it first")
        bind_to(self._connection, network.addresses)
        await self._connection.setLocalDescription()
        self._wire = Wire(video)
        self.answer_sdp = self._connection.localDescription.sdp

    @property
    def wire(self) -> Wire:
        """The datagrams of this connection; there from the answer on."""
        assert self._wire is not None
        return self._wire

    @property
    def connected(self) -> bool:
        return self._connection.connectionState == "connected"

    @property
    def gone(self) -> bool:
        """Closed to the last socket."""
        return self._closing is not None and self._closing.done()

    def end(self, reason: str) -> None:
        """Begin to close. Twice is fine; the first reason counts."""
        if not self._ended:
            self._ended = True
            if self._watch is not None:
                self._watch.cancel()
            self._on_end(reason)
            self._closing = asyncio.get_running_loop().create_task(self._close(), name=f"close-{self.id}")

    async def aclose(self) -> None:
        """Close and wait until sockets, tasks and threads are gone. Twice is fine."""
        self.end("closed")
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await asyncio.wait_for(self._connection.close(), CLOSE_SECONDS)
        except TimeoutError:
            log.warning("peer connection %s did not close within %.0f s", self.id, CLOSE_SECONDS)

    def _state_changed(self) -> None:
        state = self._connection.connectionState
        if state == "failed":
            self.end("the connection failed: no path between the two sides, or the encryption did not start")
        elif state == "closed":
            self.end("the other side closed the connection")

    def _look(self) -> None:
        """Once a second: has it connected, and is anybody still there?"""
        now = time.monotonic()
        if not self.connected and now - self._opened_at > CONNECT_SECONDS:
            self.end(f"not connected within {CONNECT_SECONDS:.0f} s: check that UDP reaches this machine")
        elif self.connected and now - self.wire.heard_at > self._silent_seconds:
            self.end(f"nothing heard for {self._silent_seconds:.0f} s")
        else:
            self._watch = asyncio.get_running_loop().call_later(_WATCH_SECONDS, self._look)


def _nobody(reason: str) -> None:
    del reason
