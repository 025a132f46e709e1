"""RTSP cameras."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal
from urllib.parse import SplitResult, urlsplit

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from streamer.errors import SourceError, SourceUnavailable, SourceUnusable, redact
from streamer.ingest import reading
from streamer.ingest.convert import to_i420
from streamer.ingest.source import ThreadedSource
from streamer.ingest.timeline import MAX_STEP_SECONDS, Lateness

Transport = Literal["tcp", "udp"]

_SILENCE_SECONDS = 1.75
"""The library waits twice for so long before it gives a silent camera up (measured): 3.5 s of the 5 s promised."""
_OPEN_READ_TIMEOUT_SECONDS = (5.0, _SILENCE_SECONDS)
"""Both this and the socket's time-out are needed: with only one of them some kinds of frozen peer block for ever."""
# No "fflags nobuffer": it throws away what probing read, and with it the keyframe that cameras send first; the first
# picture then waits for the next one. The delay afterwards is the same with and without it.
_OPTIONS = {
    "probesize": "32768",
    "analyzeduration": "0",  # opens in 0.13 s instead of 0.98 s
    "timeout": str(int(_SILENCE_SECONDS * 1e6)),  # microseconds
    "allowed_media_types": "video",  # sound that goes on must not hide that the picture stopped
}
_UDP_OPTIONS = {"buffer_size": str(1 << 20)}  # bytes; a keyframe of 1080p arrives as a burst of some hundred packets
_DIAGNOSIS_SECONDS = 1.0
_PICTURE_SECONDS = 3.0
"""Packets without a picture for so long: frozen."""
_FIRST_PICTURE_SECONDS = 20.0
"""Some cameras send a keyframe every ten seconds or less often, and nothing can be decoded before it."""


class RtspSource(ThreadedSource):
    """A camera at an `rtsp://` or `rtsps://` address, over TCP (interleaved) or UDP.

    Lost connections and frozen cameras are noticed within 5 s and tried again with back-off. A refused password, an
    unknown path or a server that is no camera is `failed` and tried again slowly. Where this machine cannot decode as
    fast as the camera sends, pictures are skipped up to the next keyframe, so that delay does not build up.
    """

    kind: ClassVar[str] = "rtsp"
    retries_unusable: ClassVar[bool] = True

    def __init__(self, url: str, max_size: tuple[int, int] = (1920, 1080), transport: Transport = "tcp") -> None:
        """`max_size` is width and height in pixels; larger pictures are scaled down while decoding.

        Raises:
            SourceUnusable: `url` is not the address of a camera.
        """
        super().__init__(MAX_STEP_SECONDS)
        self._address = _parsed(url)
        # FFmpeg knows schemes in small letters only.
        self._url = self._address.scheme.lower() + url[len(self._address.scheme) :]
        self._max_size = max_size
        self.transport: Transport = transport

    def describe(self) -> dict[str, object]:
        """Kind, address without its credentials, and transport."""
        return {"kind": self.kind, "url": redact(self._url), "transport": self.transport}

    def _play(self) -> None:
        shown = redact(self._url)
        with _translated(shown, self._address):
            _resolve(self._address)
            options = _OPTIONS | {"rtsp_transport": self.transport}
            if self.transport == "udp":
                options |= _UDP_OPTIONS
            if self._stopping.is_set():
                return
            with av.open(self._url, options=options, timeout=_OPEN_READ_TIMEOUT_SECONDS) as container:
                stream = reading.find_video(container, shown)
                # Frame threads cost a frame of delay each; slice threads find nothing to do in what cameras send.
                stream.thread_count = 1
                self._timeline.announce(reading.frame_rate(stream))
                self._timeline.restart()
                self._read(container, stream)
        if not self._stopping.is_set():
            raise SourceUnavailable(f"{shown} ended the stream; waiting for it to come back")

    def _read(self, container: InputContainer, stream: VideoStream) -> None:
        aspect = reading.pixel_aspect(stream)
        lateness = Lateness()
        skipping = False
        deadline = time.monotonic() + _FIRST_PICTURE_SECONDS
        for packet in reading.packets(container, stream):
            if self._stopping.is_set():
                return
            captured_at = time.monotonic()
            if captured_at > deadline:
                raise SourceUnavailable(f"{redact(self._url)} sends data but no picture any more; reconnecting")
            sent_at = reading.seconds(packet)
            if sent_at is not None and lateness.step(sent_at, captured_at):
                skipping = True
            if skipping and packet.size and not packet.is_keyframe:
                self.dropped += 1
                continue
            skipping = False
            for picture in reading.decode(packet):
                i420 = to_i420(picture, self._max_size, aspect)
                done = time.monotonic()
                pts_seconds = self._timeline.step(reading.seconds(picture))
                self._publish(i420, pts_seconds, captured_at, done - captured_at)
                captured_at = done
                deadline = done + _PICTURE_SECONDS


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme.lower() in ("rtsp", "rtsps") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    good = good and not any(character.isspace() or not character.isprintable() for character in url)
    # An "@" behind the host and port may end a password: its beginning would be taken for the host, and shown.
    if not good or "@" in parts.path + parts.query + parts.fragment:
        # Nothing of an address with a password in it is shown: where the password ends is not sure.
        what = "this address" if "@" in url else repr(url)
        raise SourceUnusable(
            f"{what} is no RTSP address; give rtsp://host:554/path, with user:password@ before the host where it asks "
            "for them, and in user, password and path write %40 for @, %2F for / of a password, %20 for a space"
        )
    return parts


def _resolve(address: SplitResult) -> None:
    """Look the host's name up first: the library reports an unknown host as an input/output error."""
    try:
        socket.getaddrinfo(address.hostname, address.port or 554, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or "not a host name"
        raise SourceUnavailable(f"unknown host {address.hostname} ({reason}); check the address") from exc


def _diagnosed(shown: str, address: SplitResult) -> SourceError:
    """Ask the server for a sign of life, to tell a camera in trouble from something that is no camera."""
    try:
        with socket.create_connection((address.hostname, address.port or 554), _DIAGNOSIS_SECONDS) as connection:
            connection.settimeout(_DIAGNOSIS_SECONDS)
            if address.scheme.lower() == "rtsp":
                connection.sendall(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
            greeting = connection.recv(40)
    except OSError:
        greeting = b""
    if not greeting or address.scheme.lower() == "rtsps":
        return SourceUnavailable(f"{shown} gives no answer; is the camera starting or hung, and the port right?")
    if greeting.startswith(b"RTSP/"):
        return SourceUnavailable(f"{shown} answers, but sends no picture that can be read; try another path or codec")
    said = greeting.splitlines()[0].decode("ascii", "replace")
    return SourceUnusable(f"{shown} is no camera: it answers {said!r}; check host and port")


@contextmanager
def _translated(shown: str, address: SplitResult) -> Iterator[None]:
    """The library's errors as this project's, with `shown` for the address.

    Raised `from None`: the library's messages quote the address with its password, and tracebacks end up in logs.
    """
    try:
        yield
    except av.error.HTTPUnauthorizedError:
        raise SourceUnusable(
            f"{shown} refused the credentials (401); put the right user name and password into the address"
        ) from None
    except av.error.HTTPForbiddenError:
        raise SourceUnusable(f"{shown} forbids access (403); allow this user to watch the stream") from None
    except av.error.HTTPNotFoundError:
        raise SourceUnusable(f"{shown}: the camera has no such path (404); look it up in its manual") from None
    except av.error.HTTPClientError as exc:
        raise SourceUnusable(
            f"{shown} refused the request ({exc.strerror}); try the other transport (tcp or udp) or another path"
        ) from None
    except av.error.InvalidDataError:
        # Also what the library says of a peer that hangs up or never answers, which may be a camera starting up.
        raise _diagnosed(shown, address) from None
    except (av.error.ProtocolNotFoundError, av.error.DemuxerNotFoundError, av.error.DecoderNotFoundError) as exc:
        raise SourceUnusable(f"{shown} cannot be read with this build of FFmpeg: {exc.strerror}") from None
    except ConnectionRefusedError:
        raise SourceUnavailable(f"{shown} refused the connection; is the camera on, and the port right?") from None
    except (TimeoutError, av.error.ExitError):
        raise SourceUnavailable(f"{shown} sends nothing (timed out); is the camera hung?") from None
    except (av.error.FFmpegError, OSError) as exc:
        raise SourceUnavailable(f"{shown} cannot be reached: {exc.strerror or type(exc).__name__}") from None
