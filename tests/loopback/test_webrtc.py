"""Publisher, service and viewers over real sockets: WHIP in, WHEP out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import av
import numpy as np
import psutil
import pytest

from streamer.channels import Closed, LatestSlot
from streamer.egress.encoder import EncodedFrame, RenderJob, StreamEncoder
from streamer.egress.whep import QUEUE_FRAMES, Viewers
from streamer.errors import (
    CodecUnsupported,
    ConfigError,
    LimitReached,
    NegotiationError,
    SessionUnknown,
    StreamConflict,
)
from streamer.frames import Frame
from streamer.ingest import whip
from streamer.ingest.mark import read, stamp
from streamer.ingest.whip import WhipSource
from streamer.service.settings import IceServer, ServiceSettings, Settings, VideoSettings, WebRtcSettings
from streamer.tracks import Target
from streamer.webrtc import peers
from streamer.webrtc.hooks import host_addresses
from streamer.webrtc.peers import Network
from tests.media import texture
from tests.peers import Publisher, Viewer

SIZE = (640, 360)


def settings(**sections: object) -> Settings:
    return Settings(video=VideoSettings(bit_rate=2_000_000), **sections)  # type: ignore[arg-type]


@dataclass
class Service:
    """The transport of one stream: source, encoder, viewers, without vision."""

    source: WhipSource
    encoder: StreamEncoder
    viewers: Viewers
    slot: LatestSlot[Frame]
    frames: list[tuple[int, float]] = field(default_factory=list)
    """Index and pts of each frame that came in."""
    sent: list[EncodedFrame] = field(default_factory=list)

    async def pump(self) -> None:
        with contextlib.suppress(Closed):
            while True:
                frame = await self.slot.aget()
                self.frames.append((frame.index, frame.pts_seconds))
                self.encoder.submit(RenderJob(frame, None, "none", Target(), None))


class Tap:
    """A sink beside the viewers."""

    wants_result = False

    def __init__(self, service: Service) -> None:
        self._service = service

    def put(self, frame: EncodedFrame) -> None:
        self._service.sent.append(frame)

    def closed(self) -> None:
        pass


@contextlib.asynccontextmanager
async def running(configured: Settings | None = None) -> AsyncIterator[Service]:
    configured = configured or settings()
    encoder = StreamEncoder(asyncio.get_running_loop(), configured.video)
    slot: LatestSlot[Frame] = LatestSlot()
    service = Service(WhipSource(configured), encoder, Viewers(encoder, configured), slot)
    encoder.add_sink(Tap(service))
    service.source.start(slot)
    pump = asyncio.create_task(service.pump())
    try:
        yield service
    finally:
        await service.source.aclose()
        await service.viewers.aclose()
        slot.close()
        await pump
        await asyncio.to_thread(encoder.close)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with running() as running_service:
        yield running_service


def picture(number: int) -> np.ndarray:
    """Carries its own number, which survives two encodings."""
    i420 = texture(*SIZE, number)
    stamp(i420, number)
    return i420


def number_of(viewer: Viewer) -> int | None:
    assert viewer.latest is not None
    return read(viewer.latest.to_ndarray())


def noting(numbers: list[int]) -> Callable[[av.VideoFrame], None]:
    """Appends the number of each frame that a viewer shows."""

    def note(frame: av.VideoFrame) -> None:
        number = read(frame.to_ndarray())
        if number is not None:
            numbers.append(number)

    return note


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("codec", ["H264", "VP8"])
async def test_what_is_published_is_seen(service: Service, codec: str) -> None:
    assert service.source.state.reason == "waiting for a publisher"
    async with Publisher(service.source.answer, picture, codec=codec), Viewer(service.viewers.answer) as viewer:
        await viewer.wait_for(lambda v: v.frames >= 20)
        assert viewer.latest is not None
        assert (viewer.latest.width, viewer.latest.height) == SIZE
        assert number_of(viewer) is not None
        luma = viewer.latest.to_ndarray()[20 : SIZE[1]].astype(int)
        published = texture(*SIZE, number_of(viewer) or 0)[20 : SIZE[1]]
        assert np.abs(luma - published).mean() < 6
        assert service.source.state.phase == "live"
        assert service.source.fps is not None
    indices = [index for index, _ in service.frames]
    assert indices == sorted(set(indices))
    steps = np.diff([pts for _, pts in service.frames])
    assert (steps > 0).all()
    assert (steps < 1).all()


async def test_a_viewer_that_joins_late_sees_a_picture_soon_and_all_get_the_same_packets(service: Service) -> None:
    async with Publisher(service.source.answer, picture), Viewer(service.viewers.answer) as early:
        await early.wait_for(lambda v: v.frames >= 45)  # past the keyframe of the start
        async with Viewer(service.viewers.answer) as late:
            await late.wait_for(lambda v: v.frames >= 10)
            assert service.viewers.count == 2
            assert late.first_frame_seconds is not None
            numbers: list[set[int | None]] = [set(), set()]
            deadline = time.monotonic() + 10
            while len(numbers[0] & numbers[1]) < 5 and time.monotonic() < deadline:
                numbers[0].add(number_of(early))
                numbers[1].add(number_of(late))
                await asyncio.sleep(0.01)
            assert len(numbers[0] & numbers[1]) >= 5
        assert service.encoder.encoder_name in ("libx264", "h264_nvenc")


async def test_a_viewer_asking_gets_a_keyframe(service: Service) -> None:
    async with Publisher(service.source.answer, picture), Viewer(service.viewers.answer) as viewer:
        await viewer.wait_for(lambda v: v.frames >= 15)
        # Between two regular ones, which are a second apart.
        await until(lambda: service.sent[-1].keyframe)
        await asyncio.sleep(0.4)
        count = len(service.sent)
        await viewer.request_keyframe()
        await until(lambda: any(frame.keyframe for frame in service.sent[count:]))
        position = next(n for n, frame in enumerate(service.sent[count:]) if frame.keyframe)
        last_regular = max(frame.pts for frame in service.sent[:count] if frame.keyframe)
        assert service.sent[count + position].pts - last_regular < 90_000 * 0.95


async def test_a_viewer_that_cannot_be_sent_to_waits_for_a_keyframe_and_the_others_go_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    shown: list[int] = []
    async with (
        Publisher(service.source.answer, picture),
        Viewer(service.viewers.answer, noting(seen)) as good,
        Viewer(service.viewers.answer, noting(shown)) as bad,
    ):
        await bad.wait_for(lambda v: v.frames >= 10)
        stuck = service.viewers._viewers[bad.session_id]
        wire = stuck.peer.wire
        with monkeypatch.context() as patch:
            # What asyncio says when a socket's buffer is full; loopback's never is.
            patch.setattr(type(wire), "unsent_bytes", property(lambda self: 1 << 30 if self is wire else 0))
            good_at = good.frames
            await good.wait_for(lambda v: v.frames >= good_at + 3 * QUEUE_FRAMES)
            stuck_at, good_at = bad.frames, good.frames
            await good.wait_for(lambda v: v.frames >= good_at + QUEUE_FRAMES)
            assert bad.frames == stuck_at
            assert service.viewers.dropped > QUEUE_FRAMES
            # What waits now begins with the keyframe that was asked for, and is what the others were just sent: they
            # have seen every frame, so the queue's first is no older than their last but seven.
            assert len(stuck._frames) <= QUEUE_FRAMES
            assert all(waiting.keyframe for waiting in list(stuck._frames)[:1])
            oldest, before = seen[-QUEUE_FRAMES], len(shown)
        await bad.wait_for(lambda v: len(shown) > before)
        assert shown[before] >= oldest, f"nothing old is shown (the last one before was {shown[before - 1]})"


async def test_lost_packets_are_sent_again(service: Service) -> None:
    lost = 0

    async with Publisher(service.source.answer, picture) as publisher, Viewer(service.viewers.answer) as viewer:
        await viewer.wait_for(lambda v: v.frames >= 10)
        wire = service.viewers._viewers[viewer.session_id].peer.wire
        stock = wire.send_rtp

        def lossy(packets: list[bytes] | tuple[bytes, ...]) -> None:
            nonlocal lost
            kept = [packet for packet in packets if len(packets) == 1 or hash(packet) % 10]
            lost += len(packets) - len(kept)
            stock(kept)

        wire.send_rtp = lossy  # type: ignore[assignment, method-assign]
        at = viewer.frames
        await viewer.wait_for(lambda v: v.frames >= at + 40)
        assert lost > 0
        assert publisher.connection.connectionState == "connected"


async def test_the_publisher_is_asked_for_a_keyframe_after_a_loss(service: Service) -> None:
    async with Publisher(service.source.answer, picture) as publisher:
        await until(lambda: len(service.frames) > 15)
        before, count = publisher.keyframe_requests, len(service.frames)
        session = service.source._session
        assert session is not None
        assert session._incoming is not None
        session._incoming._assembler._lose()
        await until(lambda: publisher.keyframe_requests > before)
        await until(lambda: len(service.frames) > count + 10)


async def test_a_second_publisher_is_refused_and_the_next_may_come(service: Service) -> None:
    async with Publisher(service.source.answer, picture) as first:
        await until(lambda: len(service.frames) > 5)
        second = Publisher(service.source.answer, picture)
        with pytest.raises(StreamConflict, match="already"):
            await second.connect()
        await second.close()
        await service.source.end(first.session_id)
        assert service.source.state.phase == "reconnecting"
        assert "waiting for a publisher" in (service.source.state.reason or "")
        with pytest.raises(SessionUnknown):
            await service.source.end(first.session_id)
    index, pts = service.frames[-1]
    async with Publisher(service.source.answer, picture):
        await until(lambda: service.frames[-1][0] > index + 5)
        assert service.source.state.phase == "live"
    following = [entry for entry in service.frames if entry[0] > index]
    assert 0 < following[0][1] - pts < 1


async def test_a_publisher_that_vanishes_is_noticed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whip, "SILENT_SECONDS", 0.5)
    publisher = Publisher(service.source.answer, picture)
    await publisher.connect()
    await until(lambda: service.source.state.phase == "live")
    # As after kill -9: no goodbye of any kind, just nothing more on the wire.
    (transport,) = publisher.connection._RTCPeerConnection__iceTransports
    for protocol in transport._connection._protocols:
        protocol.transport.abort()
    await until(lambda: service.source.state.phase == "reconnecting")
    assert "nothing heard" in (service.source.state.reason or "")
    await publisher.close()


@pytest.mark.parametrize("offer", ["", "garbage", "v=0\r\n", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"])
async def test_garbage_is_refused_quickly_and_leaves_nothing(service: Service, offer: str) -> None:
    before = resources()
    began = time.monotonic()
    for answer in (service.viewers.answer, service.source.answer):
        with pytest.raises(NegotiationError):
            await answer(offer)
    assert time.monotonic() - began < 1
    assert service.viewers.count == 0
    await settle(before)


async def test_an_offer_without_h264_or_that_aiortc_refuses_leaves_nothing(service: Service) -> None:
    viewer = Viewer(service.viewers.answer)
    offers: list[str] = []

    async def keep(offer: str) -> tuple[str, str]:
        offers.append(offer)
        raise StreamConflict("only to look at")

    viewer._answer = keep
    with pytest.raises(StreamConflict):
        await viewer.connect()
    before = resources()
    without = re.sub(r"a=(rtpmap|fmtp|rtcp-fb):(99|100|101|102) .*\r\n", "", offers[0])
    with pytest.raises(CodecUnsupported):
        await service.viewers.answer(without.replace(" 99 100 101 102", ""))
    # A sound section with nothing that aiortc knows: it raises in the middle of its work.
    odd = offers[0] + (
        "m=audio 9 UDP/TLS/RTP/SAVPF 120\r\nc=IN IP4 0.0.0.0\r\na=mid:9\r\na=sendrecv\r\na=rtcp-mux\r\n"
        "a=rtpmap:120 speex/8000\r\n"
        + "".join(line + "\r\n" for line in offers[0].splitlines() if re.match("a=(ice-|fingerprint|setup)", line))
    )
    with pytest.raises(NegotiationError):
        await service.viewers.answer(odd)
    await settle(before)
    await viewer.close()


async def test_more_viewers_than_allowed_are_refused_and_ended_ones_make_room() -> None:
    async with running(settings(service=ServiceSettings(max_viewers=1))) as service:
        first, second = Viewer(service.viewers.answer), Viewer(service.viewers.answer)
        await first.connect()
        with pytest.raises(LimitReached, match="max_viewers"):
            await second.connect()
        await second.close()
        await service.viewers.end(first.session_id)
        assert service.viewers.count == 0
        with pytest.raises(SessionUnknown):
            await service.viewers.end(first.session_id)
        await first.close()
        async with Viewer(service.viewers.answer):
            assert service.viewers.count == 1


async def test_a_peer_that_never_connects_is_closed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "CONNECT_SECONDS", 0.5)
    viewer = Viewer(service.viewers.answer)
    answers: list[tuple[str, str]] = []

    async def then_gone(offer: str) -> tuple[str, str]:
        answers.append(await service.viewers.answer(offer))
        raise StreamConflict("the browser tab was closed")

    viewer._answer = then_gone
    before = resources()
    with pytest.raises(StreamConflict):
        await viewer.connect()
    await viewer.close()
    assert service.viewers.count == 1
    await until(lambda: service.viewers.count == 0)
    await settle(before)


async def settle(before: tuple[int, int, int], seconds: float = 10.0) -> None:
    """Wait until there are no more tasks, threads and sockets than before."""
    deadline = time.monotonic() + seconds
    while more_than(before) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert not more_than(before), [task.get_name() + repr(task.get_coro()) for task in asyncio.all_tasks()]


def more_than(before: tuple[int, int, int]) -> bool:
    return any(now > then for now, then in zip(resources(), before, strict=True))


def resources() -> tuple[int, int, int]:
    """Tasks, threads and sockets of this process."""
    threads = sum(1 for thread in threading.enumerate() if not thread.name.startswith("asyncio_"))
    return len(asyncio.all_tasks()), threads, sockets()


def sockets() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


async def test_twenty_viewers_and_five_publishers_leave_nothing_behind(service: Service) -> None:
    before = resources()
    for round_ in range(5):
        publisher = Publisher(service.source.answer, picture)
        await publisher.connect()
        viewers = [Viewer(service.viewers.answer) for _ in range(4)]
        for viewer in viewers:
            await viewer.connect()
        for viewer in viewers:
            await viewer.wait_for(lambda v: v.frames >= 2)
        # Some say goodbye by themselves, some are ended by us.
        if round_ % 2:
            for viewer in viewers:
                await service.viewers.end(viewer.session_id)
            await service.source.end(publisher.session_id)
        for viewer in viewers:
            await viewer.close()
        await publisher.close()
        await until(lambda: service.viewers.count == 0)
        await until(lambda: service.source.state.phase == "reconnecting")
    await settle(before)


async def test_closing_ends_everybody() -> None:
    before = resources()
    async with running() as service:
        publisher, viewer = Publisher(service.source.answer, picture), Viewer(service.viewers.answer)
        await publisher.connect()
        await viewer.connect()
        await viewer.wait_for(lambda v: v.frames >= 3)
        await service.source.aclose()
        await service.viewers.aclose()
        await service.viewers.aclose()
        await asyncio.to_thread(service.source.close)
        assert service.source.state.phase == "ended"
        for answer in (service.viewers.answer, service.source.answer):
            with pytest.raises(StreamConflict):
                await answer("v=0")
        await viewer.close()
        await publisher.close()
    await settle(before)


async def test_close_from_another_thread_ends_the_publisher(service: Service) -> None:
    async with Publisher(service.source.answer, picture):
        await until(lambda: service.source.state.phase == "live")
        await asyncio.to_thread(service.source.close)
        assert service.source.state.phase == "ended"
        assert service.source._session is None


async def test_only_loopback_is_offered_when_bound_to_loopback(service: Service) -> None:
    async with Viewer(service.viewers.answer) as viewer, Publisher(service.source.answer, picture) as publisher:
        for answer in (viewer.answer_sdp, publisher.answer_sdp):
            hosts = re.findall(r"a=candidate:\S+ \d udp \d+ (\S+) \d+ typ (\S+)", answer)
            assert hosts == [("127.0.0.1", "host")]
        assert "x-google-start-bitrate=4000" in publisher.answer_sdp
        await viewer.wait_for(lambda v: v.frames >= 1)
    bound = {c.laddr.ip for c in psutil.Process().net_connections("udp")}
    assert bound <= {"127.0.0.1"}


def test_the_network_follows_the_binding_and_the_settings() -> None:
    assert Network.of(settings()) == Network(("127.0.0.1",), True)
    assert Network.of(settings(service=ServiceSettings(host="localhost"))).addresses == ("127.0.0.1",)
    everywhere = Network.of(settings(service=ServiceSettings(host="0.0.0.0")))
    assert everywhere.addresses == (tuple(host_addresses()) or ("127.0.0.1",))
    one = Network.of(settings(service=ServiceSettings(host="192.0.2.77")))
    assert (one.addresses, one.loopback_only) == (("192.0.2.77",), False)
    chosen = Network.of(settings(webrtc=WebRtcSettings(interfaces=["127.0.0.1"]), service=ServiceSettings(host="::")))
    assert chosen.addresses == ("127.0.0.1",)
    assert Network.of(settings()).configuration().iceServers == [], "no public STUN server"
    with pytest.raises(ConfigError, match=r"203\.0\.113\.9 is not an address of this machine"):
        Network.of(settings(webrtc=WebRtcSettings(interfaces=["203.0.113.9"])))
    with pytest.raises(ConfigError, match="ice_servers"):
        Network.of(settings(webrtc=WebRtcSettings(ice_servers=[IceServer(urls="http://turn")])))
    turn = IceServer(urls="turn:127.0.0.1:3478", username="u", credential="p")
    relayed = Network.of(settings(webrtc=WebRtcSettings(ice_servers=[turn])))
    assert relayed.configuration().iceServers[0].username == "u"
    assert not relayed.loopback_only


async def test_a_change_of_size_reaches_the_viewer(service: Service) -> None:
    def growing(number: int) -> np.ndarray:
        return texture(*((320, 240) if number < 20 else SIZE), number)

    publisher = Publisher(service.source.answer, growing)

    async with Viewer(service.viewers.answer) as viewer:
        await publisher.connect()
        await viewer.wait_for(lambda v: v.latest is not None and v.latest.width == 320)
        await viewer.wait_for(lambda v: v.latest is not None and v.latest.width == SIZE[0])
        await publisher.close()
