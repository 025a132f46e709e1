"""The Python API: `from streamer import IdentityAwareSegmentation`.

    from streamer import IdentityAwareSegmentation

    with IdentityAwareSegmentation() as segmentation:
        segmentation.add_member("wonyoung", ["wonyoung1.jpg", "wonyoung2.jpg"])
        result = segmentation.segment_image("stage.jpg", "wonyoung", object_prompt="shirt")
        result.save("out")                                  # annotated.png, overlay.png, cutout.png, result.json
        segmentation.process_video("stage.mp4", "wonyoung", "wonyoung.mp4", fancam="9:16")
        for frame in segmentation.open_stream("rtsp://camera/live", "wonyoung"):
            print(frame.pts_seconds, [track.name for track in frame.tracks])

Pictures that go in and come out are RGB, (H, W, 3) uint8; boxes are x0, y0, x1, y1 in pixels. Every error is a
`streamer.errors.StreamerError`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from streamer.errors import ConfigError, GalleryError, MemberUnknown, PhotoRefused
from streamer.offline import album, photo, video, watching
from streamer.offline.cast import Cast
from streamer.offline.fancam import parse_aspect
from streamer.offline.film import Look
from streamer.offline.given import each_photo, picture_of
from streamer.offline.photo import PhotoOrder, PromptType
from streamer.offline.progress import Meter, OnProgress
from streamer.offline.results import ImageResult, StreamResult
from streamer.offline.sight import Sight, joined
from streamer.offline.video import VideoOrder, VideoResult
from streamer.service.settings import Settings, load
from streamer.service.sources import make_source
from streamer.tracks import STYLES, Style
from streamer.vision import enrolment, member_name, photos
from streamer.vision.known import Known

if TYPE_CHECKING:
    from streamer.offline.given import ImageLike

Engine = Literal["lite", "sam3"]
ModelSize = Literal["large", "base", "small", "tiny"]
Device = Literal["cpu", "cuda"]
Dtype = Literal["bfloat16", "float16", "float32"]

CHECKPOINTS: Mapping[str, str] = {
    "large": "sam3",
    "base": "facebook/sam2.1-hiera-base-plus",
    "small": "facebook/sam2.1-hiera-small",
    "tiny": "edgetam",
}
"""Of engine `sam3`, by model size. All but `large` know no concepts: they follow people, and answer no object."""


class IdentityAwareSegmentation:
    """Find people by name in pictures, video files and live streams, and segment exactly them.

    Models are loaded at the first use and shared by all calls. Not thread-safe. Several may be made, one after the
    other or side by side. `close`, or leaving the `with` block, frees the models.
    """

    def __init__(
        self,
        engine: Engine = "lite",
        model_size: ModelSize = "large",
        device: Device | None = None,
        dtype: Dtype = "bfloat16",
        *,
        data_dir: str | PathLike[str] | None = None,
        config: str | PathLike[str] | None = None,
        use_gallery: bool = True,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            engine: `lite` (CPU, no model hub) or `sam3`.
            model_size: of engine `sam3`: `large` is SAM 3, `base` and `small` are SAM 2.1, `tiny` is EdgeTAM.
            device: None: `cpu` for lite, `cuda` for sam3.
            dtype: of engine `sam3`.
            data_dir: where models and the gallery lie; None: as the command line has it.
            config: a YAML file as for the command line.
            use_gallery: members enrolled with `streamer members add` are known as well.

        Raises:
            ConfigError: an argument cannot be used.
        """
        for value, allowed, what in (
            (engine, ("lite", "sam3"), "engine"),
            (model_size, tuple(CHECKPOINTS), "model_size"),
            (device, ("cpu", "cuda", None), "device"),
            (dtype, ("bfloat16", "float16", "float32"), "dtype"),
        ):
            if value not in allowed:
                choices = ", ".join(repr(choice) for choice in allowed if choice is not None)
                raise ConfigError(f"{what} is {value!r}: use one of {choices}")
        vision: dict[str, Any] = {"engine": engine}
        if device is not None or engine == "sam3":
            vision["device"] = device or "cuda"
        if engine == "sam3":
            vision["sam3"] = {"checkpoint": CHECKPOINTS[model_size], "dtype": dtype}
        overrides: dict[str, Any] = {"vision": vision}
        if data_dir is not None:
            overrides["data_dir"] = Path(data_dir).expanduser().absolute()
        self._settings = load(None if config is None else Path(config), overrides)
        self._use_gallery = use_gallery
        self._sight: Sight | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the models. Twice is fine; afterwards every call raises `ConfigError`."""
        self._closed, self._sight = True, None

    @property
    def settings(self) -> Settings:
        """What is in effect."""
        return self._settings

    @property
    def members(self) -> tuple[str, ...]:
        """Everybody who is known by name."""
        return self._seeing().known.names

    def add_member(self, name: str, photos: ImageLike | Iterable[ImageLike]) -> int:
        """Know a person by one or more photos, as long as this object lives. Called again, photos are added.

        Args:
            name: any name; it need not be one of the gallery.
            photos: paths, folders, RGB arrays or PIL images, each with one clear face.

        Returns:
            How many photos were kept.

        Raises:
            PhotoRefused: not one photo can be used; the message says why the first one cannot.
            GalleryError: the name cannot be used.
        """
        sight = self._seeing()
        name = self._spelt(sight, member_name.clean(name))
        reasons: list[PhotoRefused] = []
        kept = 0
        for given in each_photo(photos):
            try:
                new = self._enrolled(sight, name, given)
            except PhotoRefused as exc:
                reasons.append(exc)
                continue
            kept += 1
            self._sight = sight = Sight(sight.settings, sight.models, joined(sight.known, new))
        if not kept:
            raise reasons[0] if reasons else PhotoRefused(f"{name!r} was given no photo; give at least one")
        return kept

    def segment_image(
        self,
        image: ImageLike,
        member_name: str,
        object_prompt: str | None = None,
        prompt_type: PromptType = "box",
        *,
        box: Sequence[float] | None = None,
    ) -> ImageResult:
        """Find a member in a picture.

        Args:
            image: a path, an RGB array (H, W, 3) uint8 (or grey, or RGBA), or a PIL image.
            member_name: whom to look for.
            object_prompt: a part of the person: "shirt", "hair", "shoes", …
            prompt_type: `box`: the person by the face's box; `text`: by the words of the prompt in the person.
            box: x0, y0, x1, y1 in pixels: the person in it is meant, whoever it is.

        Raises:
            PhotoRefused: no picture that can be read.
            MemberUnknown: nobody of that name is known.
            PromptUnsupported: the engine cannot answer the object prompt.
        """
        sight, order = self._ordered(member_name, object_prompt, prompt_type, box)
        bgr, name = picture_of(image)
        return ImageResult.of(photo.segment(bgr, order, sight, name))

    def segment_images(
        self,
        paths: Iterable[ImageLike],
        member_name: str,
        object_prompt: str | None = None,
        prompt_type: PromptType = "box",
        *,
        on_progress: OnProgress | None = None,
    ) -> Iterator[ImageResult | PhotoRefused]:
        """As `segment_image` of many pictures: read ahead and, with engine `sam3`, encoded four at a time.

        Returns:
            An iterator, in the order given; for a picture that cannot be read, the error instead of a result.
        """
        sight, order = self._ordered(member_name, object_prompt, prompt_type, None)
        given = list(paths)
        return self._segmented(sight, order, given, on_progress)

    def process_video(
        self,
        video_path: str | PathLike[str],
        member_name: str | Sequence[str],
        output_path: str | PathLike[str],
        frame_sampling: int = 1,
        *,
        object_prompt: str | None = None,
        style: Style = "annotated",
        fancam: str | None = None,
        transparent: bool = False,
        sidecar_path: str | PathLike[str] | None = None,
        from_seconds: float | None = None,
        to_seconds: float | None = None,
        resume: bool = False,
        on_progress: OnProgress | None = None,
        stop: threading.Event | None = None,
    ) -> VideoResult:
        """Follow one or more members through a video file; sound, times and size stay as they are.

        Args:
            video_path: any file that FFmpeg reads.
            member_name: whom to follow; several may be given.
            output_path: `.mp4`, `.mov`, `.mkv`; with `transparent` `.mov` (ProRes 4444) or `.webm` (VP9).
            frame_sampling: names and masks are sought on every n-th frame and carried along in between.
            object_prompt: a part of the members.
            style: how they are drawn.
            fancam: "W:H": a crop of this shape that follows the first member.
            transparent: the members alone, with an alpha channel.
            sidecar_path: JSON lines, one a frame; None: beside the output.
            from_seconds: where to begin.
            to_seconds: where to end.
            resume: go on with what a stopped run left; a finished output is left as it is (`already` in the result), or
                refused where it was made of another clip or with other options.
            on_progress: told at most four times a second, in this thread.
            stop: set it to end in order; `resume` goes on then. Over a file that was there before, what was made lies
                beside it, as `output` of the result says.

        Raises:
            SourceUnusable, OutputError, MemberUnknown, PromptUnsupported, ConfigError.
        """
        if style not in STYLES:
            raise ConfigError(f"style is {style!r}: use one of {', '.join(STYLES)}")
        if frame_sampling < 1:
            raise ConfigError(f"frame_sampling is {frame_sampling}: 1 is every frame, 5 every fifth")
        names = _each_name(member_name)
        sight = self._seeing()
        cast = Cast.of([self._known(sight, name) for name in names], object_prompt, style)
        order = VideoOrder(
            clip=Path(video_path),
            output=Path(output_path),
            cast=cast,
            look=Look(style, None if fancam is None else parse_aspect(fancam), transparent),
            sidecar=None if sidecar_path is None else Path(sidecar_path),
            every=frame_sampling,
            from_seconds=from_seconds,
            to_seconds=to_seconds,
            resume=resume,
        )
        return video.process(order, sight, on_progress, stop)

    def open_stream(
        self, url: str, member_name: str | Sequence[str], object_prompt: str | None = None, *, everybody: bool = False
    ) -> Iterator[StreamResult]:
        """Follow members through a live stream: the newest frame each time, older ones are dropped and counted.

        The source is opened by the first `next`, and closed when the iterator ends or is closed.

        Args:
            url: `rtsp://…`, the path of a video file (played in real time), or `demo`.
            member_name: whom to follow; several may be given.
            object_prompt: a part of the members.
            everybody: masks of all people on every frame (for style `only`).

        Raises:
            MemberUnknown, PromptUnsupported, SourceUnusable: at once.
            SourceUnavailable: while iterating, when nothing comes for 15 s.
        """
        names = _each_name(member_name)
        sight = self._seeing()
        cast = Cast(tuple(dict.fromkeys(self._known(sight, name) for name in names)), object_prompt, everybody)
        source = make_source(watching.wanted(url), sight.settings)
        processor = sight.processor(cast)
        processor.close()
        return watching.watch(source, sight, cast)

    # Inside

    def _seeing(self) -> Sight:
        if self._closed:
            raise ConfigError("this IdentityAwareSegmentation was closed; make a new one")
        if self._sight is None:
            self._sight = Sight.load(self._settings, known=None if self._use_gallery else Known.nobody())
        return self._sight

    def _known(self, sight: Sight, name: str) -> str:
        """The name as the members have it."""
        try:
            name = member_name.clean(name)
        except GalleryError as exc:
            raise MemberUnknown(f"{name!r} cannot be a member's name: {exc}") from exc
        spelt = self._spelt(sight, name)
        if spelt in sight.known.names:
            return spelt
        others = ", ".join(repr(other) for other in sight.known.names[:8]) or "nobody"
        raise MemberUnknown(f"there is no member {name!r}: known are {others}; add one with add_member(name, photos)")

    @staticmethod
    def _spelt(sight: Sight, name: str) -> str:
        """The name as the members have it, if it is one of theirs; else as it is."""
        key = member_name.key(name)
        return next((known for known in sight.known.names if member_name.key(known) == key), name)

    def _ordered(
        self, name: str, words: str | None, prompt: PromptType, box: Sequence[float] | None
    ) -> tuple[Sight, PhotoOrder]:
        if prompt not in ("box", "text"):
            raise ConfigError(f"prompt_type is {prompt!r}: use 'box' or 'text'")
        if box is not None and not (len(box) == 4 and box[0] < box[2] and box[1] < box[3]):
            raise ConfigError(f"box is {tuple(box)}: give x0, y0, x1, y1 with x0 < x1 and y0 < y1")
        sight = self._seeing()
        cast = Cast((self._known(sight, name),), words)
        if words is not None:
            sight.models.check_phrase(words)
        drawn = None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
        return sight, PhotoOrder(cast, prompt, drawn)

    @staticmethod
    def _segmented(
        sight: Sight, order: PhotoOrder, given: list[ImageLike], on_progress: OnProgress | None
    ) -> Iterator[ImageResult | PhotoRefused]:
        meter = Meter(on_progress, len(given))
        meter.stage("segmenting")
        for found, _ in album.segmented(given, order, sight):
            yield found if isinstance(found, PhotoRefused) else ImageResult.of(found)
            meter.step()
        meter.finish()

    @staticmethod
    def _enrolled(sight: Sight, name: str, given: Any) -> Known:
        from streamer.vision.photo_reading import read_encoded

        assert sight.models.faces is not None
        bgr, file = picture_of(given)
        data = photos.encode_bmp(bgr)
        decoded = photos.decode(data, file, max_bytes=photos.MAX_SEGMENTED_BYTES)
        reading = read_encoded(sight.models.faces, photos.encode_bmp(decoded.bgr))
        new = enrolment.judge(
            data, decoded, reading, name=name, file=file, source="api", pick=None, known=Known.nobody(reading.model_id)
        )
        return Known(reading.model_id, (name,), np.zeros(1, np.int64), new.face.embedding[None])


def _each_name(given: str | Sequence[str]) -> list[str]:
    """One name, or each of several; what is neither is refused as a name."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        return [given]
    return list(given)
