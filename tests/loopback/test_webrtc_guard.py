"""aiortc's and aioice's private parts that streamer/webrtc/hooks.py touches: each must be where it was.

When this fails after an update, read the hook that names the part, then the new version, before raising the pin.
"""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version

import aioice.ice
import pytest
from aioice.ice import Connection, StunProtocol
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCRtpSender
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtcdtlstransport import RTCDtlsTransport, State
from aiortc.rtcrtpreceiver import StreamStatistics
from pylibsrtp import Session


def source(what: object) -> str:
    return inspect.getsource(what)  # type: ignore[arg-type]


def test_the_versions_are_those_that_the_hooks_were_written_for() -> None:
    assert version("aiortc").split(".")[:2] == ["1", "16"]
    assert version("aioice").split(".")[0] in ("0", "1")


async def test_instance_attributes_are_where_the_hooks_look() -> None:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        transceiver = connection.addTransceiver("video", direction="sendonly")
        (transport,) = connection._RTCPeerConnection__iceTransports
        agent = transport._connection
        assert isinstance(agent, Connection)
        for name in ("_nominated", "_protocols", "get_component_candidates"):
            assert hasattr(agent, name), name
        dtls = transceiver.receiver.transport
        assert dtls.transport is transport
        for name in ("_tx_srtp", "_rx_srtp", "_state"):
            assert hasattr(dtls, name), name
        for name in ("rtp_started", "rtp_exited", "ntp_timestamp", "rtp_timestamp", "packet_count", "octet_count",
                     "rtx_payload_type"):  # fmt: skip
            assert hasattr(transceiver.sender, f"_RTCRtpSender__{name}"), name
        for name in ("_ssrc", "_rtx_ssrc"):
            assert isinstance(getattr(transceiver.sender, name), int)
        for name in ("remote_streams", "jitter_buffer", "kind"):
            assert hasattr(transceiver.receiver, f"_RTCRtpReceiver__{name}"), name
        for name in ("_codecs", "_headerExtensions"):
            assert hasattr(transceiver, name), name
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("owner", "calls"),
    [
        # The sender starts what SenderHook puts in place of _run_rtp, waits for both events when it stops, and calls
        # the two others for feedback.
        (RTCRtpSender.send, ["self._run_rtp(parameters.codecs[0])"]),
        (RTCRtpSender.stop, ["self.__rtp_started.wait()", "self.__rtp_exited.wait()", "self.__rtp_task.cancel()"]),
        (RTCRtpSender._handle_rtcp_packet, ["await self._retransmit(seq)", "self._send_keyframe()"]),
        (RTCRtpSender._run_rtcp, ["self.__ntp_timestamp", "self.__packet_count", "self.__octet_count"]),
        # bind_to
        (Connection.gather_candidates, ["self.get_component_candidates(component=component, addresses=addresses)"]),
        # Wire
        (StunProtocol.datagram_received, ["self.receiver.data_received(data"]),
        (Connection.sendto, ["self._nominated.get(component)", "active_pair.remote_addr"]),
        (StunProtocol.send_data, ["self.transport.sendto(data, addr)"]),
        (RTCDtlsTransport._send_rtp, ["self._tx_srtp.protect(data)", "self._tx_srtp.protect_rtcp(data)"]),
        (RTCDtlsTransport._recv_next, ["self._rx_srtp.unprotect(data)"]),
        # ReceiverHook
        (RTCRtpReceiver._run_rtcp, ["self.__remote_streams.items()"]),
        # complete_on_marker
        (RTCRtpReceiver._handle_rtp_packet, ["self.__jitter_buffer.add(packet)", "packet._data = depayload"]),
        (JitterBuffer.add, ["self._remove_frame(packet.sequence_number)"]),
    ],
)
def test_the_code_around_the_hooks_still_does_what_they_rely_on(owner: object, calls: list[str]) -> None:
    text = " ".join(source(owner).split())
    for call in calls:
        assert call in text, f"{owner} no longer has {call}"


def test_the_rest_is_still_there() -> None:
    assert State.CONNECTED
    assert callable(aioice.ice.get_host_addresses)
    assert list(inspect.signature(StreamStatistics.add).parameters) == ["self", "packet"]
    assert callable(Session.protect)
    for name in ("_origin", "_capacity", "_packets"):
        assert hasattr(JitterBuffer(16), name)


async def test_the_event_loops_datagram_transport_has_what_bursts_are_read_with() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    try:
        assert isinstance(transport.max_size, int)  # type: ignore[attr-defined]
        assert transport._sock.fileno() >= 0  # type: ignore[attr-defined]
    finally:
        transport.close()
