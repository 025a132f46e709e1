"""Sound from one file into another: copied packet by packet, encoded again only where the container cannot take it."""

from __future__ import annotations

import contextlib
from typing import Any

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet

_UNLOVED = {
    "mp4": {"pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_u8", "pcm_f32le", "vorbis", "wmav2", "wmapro", "mp2"},
}
"""What the muxer would write and hardly any player would play."""


class SoundTrack:
    """One sound stream of an output file."""

    note: str | None = None

    def __init__(self, stream: AudioStream, bitstream_filter: BitStreamFilterContext | None = None) -> None:
        self._stream = stream
        self._filter = bitstream_filter
        self._dts: int | None = None

    def step(self, packet: Packet[AudioStream]) -> list[Any]:
        """What is to be written for one packet of the input."""
        found = [packet] if self._filter is None else self._filter.filter(packet)
        return [filtered for packet in found for filtered in self._timed(packet)]

    def _timed(self, packet: Any) -> list[Any]:
        dts = packet.dts if packet.dts is not None else packet.pts
        if dts is None or (self._dts is not None and dts <= self._dts):
            return []  # a clock that ran back: this was heard already
        self._dts = dts
        packet.dts = dts
        packet.stream = self._stream
        return [packet]

    def flush(self) -> list[Any]:
        """What is still to be written at the end."""
        return []


class EncodedSound(SoundTrack):
    """A stream whose codec does not fit the container."""

    def __init__(self, stream: AudioStream, source: AudioStream) -> None:
        super().__init__(stream)
        context = stream.codec_context
        self._resampler = AudioResampler(
            format=context.format.name,
            layout=context.layout.name,
            rate=context.sample_rate,
            frame_size=context.frame_size or None,
        )
        self._source = source
        self.note = f"sound encoded again: {source.codec_context.name} to {stream.codec_context.name}"

    def step(self, packet: Packet[AudioStream]) -> list[Any]:
        found: list[Any] = []
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            return []
        for frame in frames:
            found += self._encode(frame)
        return found

    def flush(self) -> list[Any]:
        return [*self._encode(None), *self._stream.encode(None)]

    def _encode(self, frame: av.AudioFrame | None) -> list[Any]:
        return [packet for part in self._resampler.resample(frame) for packet in self._stream.encode(part)]


def open_sound(container: OutputContainer, source: AudioStream) -> SoundTrack | None:
    """A stream in `container` for the sound of `source`; None: nothing that fits can be made of it."""
    name, kind = source.codec_context.name, container.format.name
    fits = {name, source.codec_context.codec.canonical_name} & container.supported_codecs
    if fits and name not in _UNLOVED.get(kind, ()):
        with contextlib.suppress(ValueError, av.error.FFmpegError):
            stream = container.add_stream_from_template(source)
            # AAC as it is broadcast carries its header in every packet; files want it once.
            is_broadcast = name.startswith("aac") and not source.codec_context.extradata
            return SoundTrack(stream, BitStreamFilterContext("aac_adtstoasc", source) if is_broadcast else None)
    codec = "libopus" if kind == "webm" else "aac"
    try:
        made: Any = container.add_stream(codec, rate=48_000)
        channels = source.codec_context.layout.nb_channels
        made.codec_context.layout = "mono" if channels == 1 else "stereo"
        made.codec_context.open()
        return EncodedSound(made, source)
    except (ValueError, av.error.FFmpegError):
        return None
