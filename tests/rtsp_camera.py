"""An RTSP camera for tests: real H.264 over TCP (interleaved) or UDP, with faults on command.

In this process, on a thread of its own:

    with Camera(password="secret") as camera:
        open_somehow(camera.url)
        camera.freeze()

As a process (`python -m tests.rtsp_camera --port 8554`): prints `ready <url>`, then takes the commands below, one a
line, on standard input, and answers each with `ok`. It ends with its standard input.

    stall    no more pictures, RTSP still answers        resume   undo stall, blank and freeze
    blank    packets go on without pictures in them
    freeze   no more pictures, nothing answers           drop     close every connection
    die      stop listening and close everything         return   listen again on the same port
    resize W H   another picture size from the next frame on
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import random
import re
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Literal, Self

import av

from tests.media import mark, texture

_PAYLOAD = 1200  # bytes of one RTP packet
_CLOCK = 90_000
_REALM = "camera"


class Camera:
    """The camera and its controls, which any thread may use. Marks every picture with the time it was made."""

    def __init__(
        self,
        port: int = 0,
        size: tuple[int, int] = (640, 360),
        fps: int = 25,
        user: str = "admin",
        password: str | None = None,
        auth: Literal["basic", "digest"] = "digest",
        path: str = "/cam",
        keyframe_every: int = 25,
        bit_rate: int = 2_000_000,
    ) -> None:
        """`port` 0: any free one. Without a `password` everybody may watch."""
        self.port, self.path, self.fps = port, path, fps
        self.user, self.password, self.auth = user, password, auth
        self.sent = 0
        self._size, self._keyframe_every, self._bit_rate = size, keyframe_every, bit_rate
        self._clients: set[_Client] = set()
        self._stalled = self._blank = False
        self._server: asyncio.Server | None = None
        self._parameter_sets: tuple[bytes, bytes] | None = None
        self._force_keyframe = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtsp-camera")

    @property
    def url(self) -> str:
        """Where to watch, with the right credentials."""
        login = f"{self.user}:{self.password}@" if self.password is not None else ""
        return f"rtsp://{login}127.0.0.1:{self.port}{self.path}"

    @property
    def watchers(self) -> int:
        """Connections open now."""
        return len(self._clients)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def stall(self) -> None:
        """No more pictures, while RTSP still answers."""
        self._stalled = True

    def blank(self) -> None:
        """Packets go on, but there is no picture in them any more."""
        self._blank = True

    def freeze(self) -> None:
        """No more pictures and no more answers; connections stay open."""
        self._stalled = True
        self._on_loop(self._answering.clear)

    def resume(self) -> None:
        """Undo `stall`, `blank` and `freeze`."""
        self._stalled = self._blank = False
        self._on_loop(self._answering.set)

    def drop(self) -> None:
        """Close every connection; new ones are welcome."""
        self._on_loop(self._close_clients)

    def die(self) -> None:
        """Stop listening and close everything."""
        asyncio.run_coroutine_threadsafe(self._unlisten(), self._loop).result(10)

    def come_back(self) -> None:
        """Listen again, on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def resize(self, width: int, height: int) -> None:
        """Another picture size from the next frame on."""
        self._size = (width, height)

    def _on_loop(self, call: object) -> None:
        done = threading.Event()

        def act() -> None:
            call()  # type: ignore[operator]
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(10)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._answering = asyncio.Event()
        self._answering.set()
        pictures = asyncio.create_task(self._send_pictures())
        while self._parameter_sets is None:
            if pictures.done():
                pictures.result()
            await asyncio.sleep(0.01)
        await self._listen()
        self._ready.set()
        await self._over.wait()
        self._answering.set()
        pictures.cancel()
        await asyncio.gather(pictures, return_exceptions=True)
        await self._unlisten()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _unlisten(self) -> None:
        if self._server is not None:
            self._server.close()
            self._close_clients()
            await self._server.wait_closed()
            self._server = None

    def _close_clients(self) -> None:
        for client in list(self._clients):
            client.close()

    async def _send_pictures(self) -> None:
        encoder, encoder_size, pictures = None, None, []
        started, index = self._loop.time(), 0
        while True:
            if encoder is None or self._size != encoder_size:
                encoder_size = self._size
                encoder = self._encoder(*encoder_size)
                pictures = [texture(*encoder_size, index=n) for n in range(20)]
            await asyncio.sleep(max(0.0, started + index / self.fps - self._loop.time()))
            picture = pictures[index % len(pictures)]
            if picture.shape[1] >= mark.MARK_WIDTH:
                mark.stamp(picture)
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts = index
            frame.time_base = Fraction(1, self.fps)
            if self._force_keyframe:
                frame.pict_type = av.video.frame.PictureType.I
                self._force_keyframe = False
            for packet in await asyncio.to_thread(encoder.encode, frame):
                self._send_packet(bytes(packet), index * _CLOCK // self.fps)
            index += 1

    def _encoder(self, width: int, height: int) -> av.VideoCodecContext:
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, self.fps), Fraction(self.fps)
        encoder.bit_rate, encoder.gop_size = self._bit_rate, self._keyframe_every
        encoder.thread_count = 1
        encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "forced-idr": "1"}
        encoder.profile = "Baseline"
        return encoder

    def _send_packet(self, access_unit: bytes, timestamp: int) -> None:
        units = nal_units(access_unit)
        kinds = {unit[0] & 31: unit for unit in units}
        if 7 in kinds and 8 in kinds:
            self._parameter_sets = kinds[7], kinds[8]
        if self._stalled:
            return
        if self._blank:
            units = [*self._parameter_sets] if self._parameter_sets else []
        payloads = [payload for unit in units for payload in rtp_payloads(unit)]
        for client in list(self._clients):
            client.send(payloads, timestamp)
        self.sent += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(writer)
        self._clients.add(client)
        try:
            while (request := await _read_request(reader)) is not None:
                await self._answering.wait()
                method, url, headers = request
                client.write(self._answer(client, method, url, headers))
                if method == "PLAY":
                    self._force_keyframe = True
                    client.playing = True
                if method == "TEARDOWN":
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._clients.discard(client)
            client.close()

    def _answer(self, client: _Client, method: str, url: str, headers: dict[str, str]) -> bytes:
        def answer(status: str, *lines: str, body: str = "") -> bytes:
            head = [f"RTSP/1.0 {status}", f"CSeq: {headers.get('cseq', '0')}", *lines]
            if body:
                head += ["Content-Type: application/sdp", f"Content-Base: {url}/", f"Content-Length: {len(body)}"]
            return ("\r\n".join(head) + "\r\n\r\n" + body).encode()

        session = f"Session: {client.session};timeout=60"
        if method == "OPTIONS":
            return answer("200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
        if not self._admits(method, headers.get("authorization", "")):
            nonce = f', nonce="{client.nonce}"' if self.auth == "digest" else ""
            return answer("401 Unauthorized", f'WWW-Authenticate: {self.auth.title()} realm="{_REALM}"{nonce}')
        if not re.match(rf"rtsp://[^/]+{re.escape(self.path)}(/|$)", url):
            return answer("404 Not Found")
        if method == "DESCRIBE":
            return answer("200 OK", body=self._description())
        if method == "SETUP":
            transport = client.set_up(headers.get("transport", ""))
            return answer("200 OK", session, f"Transport: {transport}")
        if method in ("PLAY", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER"):
            return answer("200 OK", session)
        return answer("501 Not Implemented")

    def _description(self) -> str:
        assert self._parameter_sets is not None
        sps, pps = self._parameter_sets
        sets = ",".join(base64.b64encode(unit).decode() for unit in (sps, pps))
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track0\r\n"
            f"a=fmtp:96 packetization-mode=1;profile-level-id={sps[1:4].hex()};sprop-parameter-sets={sets}\r\n"
        )

    def _admits(self, method: str, authorization: str) -> bool:
        if self.password is None:
            return True
        if self.auth == "basic":
            expected = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            return authorization == f"Basic {expected}"
        given = dict(re.findall(r'(\w+)="([^"]*)"', authorization))
        secret = _md5(f"{self.user}:{_REALM}:{self.password}")
        expected = _md5(f"{secret}:{given.get('nonce')}:{_md5(method + ':' + given.get('uri', ''))}")
        return given.get("username") == self.user and given.get("response") == expected


class _Client:
    """One connection: RTP interleaved in it, or beside it over UDP."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.session = f"{random.getrandbits(32):08x}"
        self.nonce = f"{random.getrandbits(64):016x}"
        self.playing = False
        self._writer = writer
        self._udp: socket.socket | None = None
        self._sequence, self._ssrc = random.getrandbits(15), random.getrandbits(32)
        self._clock_offset = random.getrandbits(30)

    def set_up(self, transport: str) -> str:
        """Note where pictures go; the answer's `Transport`."""
        if "TCP" in transport:
            return "RTP/AVP/TCP;unicast;interleaved=0-1"
        ports = re.search(r"client_port=(\d+)-(\d+)", transport)
        assert ports is not None
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setblocking(False)
        self._udp.bind(("127.0.0.1", 0))
        self._udp.connect(("127.0.0.1", int(ports[1])))
        own = self._udp.getsockname()[1]
        return f"RTP/AVP;unicast;client_port={ports[1]}-{ports[2]};server_port={own}-{own + 1};source=127.0.0.1"

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def send(self, payloads: list[bytes], timestamp: int) -> None:
        """One picture as RTP packets. A client that does not read misses pictures, as with real cameras."""
        transport = self._writer.transport
        if not self.playing or transport.is_closing() or transport.get_write_buffer_size() > 2_000_000:
            return
        stamp = timestamp + self._clock_offset & 0xFFFFFFFF
        for number, payload in enumerate(payloads):
            self._sequence = self._sequence + 1 & 0xFFFF
            marker = 0x80 if number == len(payloads) - 1 else 0
            packet = struct.pack("!BBHII", 0x80, 96 | marker, self._sequence, stamp, self._ssrc) + payload
            if self._udp is None:
                self._writer.write(b"$\0" + struct.pack("!H", len(packet)) + packet)
            else:
                try:
                    self._udp.send(packet)
                except OSError:  # nobody listens there any more, or the buffer is full: UDP loses packets
                    return

    def close(self) -> None:
        self._writer.transport.abort()
        if self._udp is not None:
            self._udp.close()
        self.playing = False


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
    """Method, URL and headers (lower case) of the next request; None at the end. Interleaved RTCP is passed over."""
    while (first := await reader.read(1)) == b"$":
        length = struct.unpack("!xH", await reader.readexactly(3))[0]
        await reader.readexactly(length)
    if not first:
        return None
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
    request, *lines = head.strip().split("\r\n")
    headers = {key.lower(): value.strip() for key, value in (line.split(":", 1) for line in lines)}
    await reader.readexactly(int(headers.get("content-length", 0)))
    method, url, _ = request.split()
    return method, url, headers


def nal_units(access_unit: bytes) -> list[bytes]:
    """NAL units of an Annex B access unit, without start codes."""
    return [unit for unit in re.split(rb"\x00\x00\x00?\x01", access_unit) if unit]


def rtp_payloads(unit: bytes) -> Iterator[bytes]:
    """RTP payloads of one NAL unit: itself, or FU-A fragments (RFC 6184, 5.8)."""
    if len(unit) <= _PAYLOAD:
        yield unit
        return
    indicator, kind = unit[0] & 0xE0 | 28, unit[0] & 31
    body = unit[1:]
    for start in range(0, len(body), _PAYLOAD - 2):
        first, last = start == 0, start + _PAYLOAD - 2 >= len(body)
        header = (0x80 if first else 0) | (0x40 if last else 0) | kind
        yield bytes([indicator, header]) + body[start : start + _PAYLOAD - 2]


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def main() -> None:
    """Run until standard input ends, taking commands from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--size", default="1280x720", metavar="WxH")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password")
    parser.add_argument("--auth", choices=("basic", "digest"), default="digest")
    parser.add_argument("--bit-rate", type=int, default=4_000_000)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    with Camera(
        port=given.port,
        size=(width, height),
        fps=given.fps,
        user=given.user,
        password=given.password,
        auth=given.auth,
        keyframe_every=given.fps,
        bit_rate=given.bit_rate,
    ) as camera:
        print("ready", camera.url, flush=True)
        commands = {
            "stall": camera.stall,
            "blank": camera.blank,
            "freeze": camera.freeze,
            "resume": camera.resume,
            "drop": camera.drop,
            "die": camera.die,
            "return": camera.come_back,
        }
        for line in sys.stdin:
            word, *arguments = line.split() or [""]
            if word == "resize":
                camera.resize(*map(int, arguments))
            elif word in commands:
                commands[word]()
            else:
                print(f"unknown command {word!r}", flush=True)
                continue
            print("ok", flush=True)


if __name__ == "__main__":
    main()
