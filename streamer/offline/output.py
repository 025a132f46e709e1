"""An output video under way: encoded pictures, sound as it came, a line a frame beside it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext

from streamer.egress.sidecar import Sidecar
from streamer.errors import OutputError
from streamer.offline.clip import Clip, Sound
from streamer.offline.codec import PRORES, VP9, open_track
from streamer.offline.destination import refused
from streamer.offline.sound import SoundTrack, open_sound

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}


_FRAGMENTS = {"movflags": "hybrid_fragmented+delay_moov", "use_editlist": "1", "flush_packets": "1"}
"""Sound begins before zero (its encoder's delay): that takes an edit list, which takes the first fragment's end."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is written."""

    codec: str
    size: tuple[int, int]
    """Pixels: width, height."""


class Output:
    """One file and, where asked for, its sidecar, under temporary names. Used by one thread.

    The file plays up to its last fragment even if the process is killed (MP4 and MOV are written in fragments and
    indexed at the end; Matroska needs no index).

    Raises (any method):
        OutputError: the disk does not take more, the folder is gone.
    """

    def __init__(self, path: Path, sidecar: Path | None, clip: Clip, kind: Kind, comment: str | None = None) -> None:
        """Begin. `path`, `sidecar`: temporary names; what lies there is overwritten. `clip`: whose sound is taken.
        `comment`: for the file's metadata."""
        self.path = path
        self.sidecar_path = sidecar
        self.frames = 0
        self.notes: list[str] = []
        self._last_pts = -1
        self._sidecar: Sidecar | None = None
        self._container: Any = None
        with self._translated():
            if sidecar is not None:
                sidecar.unlink(missing_ok=True)
                self._sidecar = Sidecar(sidecar)
            format_name = _FORMATS[path.suffix.lower()]
            fragments = format_name in ("mp4", "mov")
            self._container = av.open(
                str(path),
                "w",
                format=format_name,
                container_options=dict(_FRAGMENTS) if fragments else {},
            )
            if comment is not None:
                self._container.metadata["comment"] = comment
        try:
            self._video = open_track(self._container, kind.codec, kind.size, clip.info.fps, clip.info.colours)
            self.codec = self._video.codec
            self._sounds: list[SoundTrack | None] = [self._sound(stream) for stream in clip.sound_streams]
        except BaseException:
            self.abandon()
            raise

    def write(self, i420: np.ndarray, alpha: np.ndarray | None, pts: int, line: bytes | None) -> None:
        """Encode one picture, shown at `pts` (1/90000 s), and append its line."""
        with self._translated():
            self._mux(self._video.encode(i420, alpha, pts))
            self._line(line)
        self._last_pts = pts
        self.frames += 1

    def copy(self, packet: Any, line: bytes | None) -> None:
        """Append one picture that is encoded already, by an earlier run of the same kind."""
        with self._translated():
            packet.stream = self._video.stream
            self._mux([packet])
            self._line(line)
        self.frames += 1

    def hear(self, sound: Sound) -> None:
        """Append a packet of sound."""
        track = self._sounds[sound.track]
        if track is not None:
            with self._translated():
                self._mux(track.step(sound.packet))

    def finish(self) -> None:
        """End both files properly."""
        with self._translated():
            self._mux(self._video.flush())
            for track in self._sounds:
                if track is not None:
                    self._mux(track.flush())
            container, self._container = self._container, None
            container.close()
            if self._sidecar is not None:
                self._sidecar.close()
            for path in (self.path, self.sidecar_path):
                if path is not None:
                    _to_disk(path)

    def abandon(self) -> None:
        """Close the files as they are, after an error. Twice is fine."""
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(OSError, ValueError):
                container.close()
        if self._sidecar is not None:
            with contextlib.suppress(OSError):
                self._sidecar.close()

    @property
    def extradata(self) -> bytes | None:
        """Of the video."""
        return self._video.extradata

    def _sound(self, stream: AudioStream) -> SoundTrack | None:
        track = open_sound(self._container, stream)
        if track is None:
            self.notes.append(f"sound left out: {stream.codec_context.name} cannot be put into {self.path.suffix}")
        elif track.note:
            self.notes.append(track.note)
        return track

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._container.mux_one(packet)

    def _line(self, line: bytes | None) -> None:
        if self._sidecar is not None and line is not None:
            self._sidecar.write(line)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:  # FFmpeg's errors are of this kind too
            raise refused(self.path, exc) from exc
        except ValueError as exc:
            raise OutputError(f"cannot write {self.path}: {exc}; choose another container, such as .mkv") from exc


def copied(path: Path, codec: str) -> Generator[Any, None, None]:
    """Packets of the video of an earlier output, as the muxer takes them.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            to_annex_b = None if codec in (PRORES, VP9) else BitStreamFilterContext("h264_mp4toannexb", stream)
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                yield from [packet] if to_annex_b is None else to_annex_b.filter(packet)
    except (av.error.FFmpegError, OSError, IndexError) as exc:
        raise OutputError(f"{path}, which should be gone on with, cannot be read: {exc}; remove it") from exc


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
