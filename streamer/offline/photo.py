"""One photo: the member in it found, three pictures made, at the photo's own size."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np

from streamer.contract import result_json
from streamer.egress.overlay import draw
from streamer.errors import ConfigError, OutputError, PhotoRefused
from streamer.frames import Frame
from streamer.offline import cutout
from streamer.offline.cast import Cast
from streamer.offline.destination import check_file, check_folder, refused, written
from streamer.offline.sight import Sight
from streamer.service.photo_folder import shown
from streamer.tracks import Box, FrameResult, Target, Track
from streamer.vision import photos
from streamer.vision.engines.base import MaskEngine, Picture
from streamer.vision.labels import LabelPainter, mask_box
from streamer.vision.tracking import clip_box, overlap

PromptType = Literal["box", "text"]
OUTPUTS = ("annotated.png", "overlay.png", "cutout.png", "result.json")
_ANY_SIDE = 1_000_000
_LEAST_OVERLAP = 0.3
"""Of a person's box with a drawn box (of the smaller one): below it, the person is not the one in the box."""


@dataclass(frozen=True, slots=True)
class PhotoOrder:
    """What is looked for in photos."""

    cast: Cast
    prompt: PromptType = "box"
    """`box`: the person by the face's box or by `box_xyxy`; `text`: by the words of the object prompt in the person."""
    box_xyxy: Box | None = None
    """Pixels of the upright photo: the person in this box is meant, whatever the face says."""


@dataclass(frozen=True, slots=True)
class PhotoResult:
    """What was found in one photo. Pictures are as large as the photo."""

    name: str
    """The file's name, or "the picture"."""
    result: FrameResult
    cast: Cast
    shown: tuple[Track, ...]
    """The tracks that the pictures show: the member's, or the person in the drawn box."""
    annotated: np.ndarray
    """(H, W, 3) uint8 BGR"""
    overlay: np.ndarray
    """(H, W, 3) uint8 BGR"""
    cutout: np.ndarray
    """(H, W, 4) uint8 BGRA, soft edges"""
    seconds: float
    """Time that it took; where it was one of many, reading it included."""

    @property
    def json(self) -> dict[str, Any]:
        """The contract's object."""
        return result_json(self.result)


@dataclass(frozen=True, slots=True)
class Still:
    """A photo, read and ready for vision."""

    name: str
    bgr: np.ndarray
    """(H, W, 3) uint8, as it was read."""
    frame: Frame
    """The same; an odd side has its last row or column twice."""

    @classmethod
    def of(cls, bgr: np.ndarray, name: str) -> Self:
        """Raises `PhotoRefused` for a picture smaller than 16 pixels."""
        height, width = bgr.shape[:2]
        if min(height, width) < 16:
            raise PhotoRefused(f"a picture of {width}x{height} pixels is too small; at least 16 a side")
        even = cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        return cls(name, bgr, Frame(cv2.cvtColor(even, cv2.COLOR_BGR2YUV_I420), 0, 0.0, time.monotonic()))

    def picture(self) -> Picture:
        """As engines see it, the first and only one of a stream."""
        return Picture(cv2.cvtColor(self.frame.i420, cv2.COLOR_YUV2BGR_I420), 0, 0.0)


def decode(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 BGR, upright, at full size.

    Raises:
        PhotoRefused: no such file, not an image, damaged, 40 megapixels or more, …
    """
    name = shown(path)
    try:
        before = path.stat()
        if not path.is_file():
            raise PhotoRefused(f"{name} is {'a folder' if path.is_dir() else 'not a file'}; give a photo")
        if before.st_size > photos.MAX_SEGMENTED_BYTES:
            raise photos.too_many_bytes(before.st_size, name, photos.MAX_SEGMENTED_BYTES)
        data = path.read_bytes()
        if len(data) != before.st_size or path.stat().st_mtime_ns != before.st_mtime_ns:
            raise PhotoRefused(f"{name} changed while it was read; wait until it is written, then run it again")
    except FileNotFoundError as exc:
        raise PhotoRefused(f"{name}: no such file; check the path") from exc
    except (OSError, ValueError) as exc:
        raise PhotoRefused(f"{name}: cannot be read ({exc}); check its permissions") from exc
    return photos.decode(data, name, max_side=_ANY_SIDE, max_bytes=photos.MAX_SEGMENTED_BYTES).bgr


def segment(bgr: np.ndarray, order: PhotoOrder, sight: Sight, name: str = "the picture") -> PhotoResult:
    """Find the member in a (H, W, 3) uint8 BGR picture of any size and draw the three pictures.

    Raises:
        PhotoRefused: the picture is smaller than 16 pixels.
        PromptUnsupported: the engine cannot answer the object prompt.
        ConfigError: the drawn box lies outside the picture.
    """
    still = Still.of(bgr, name)
    with closing(sight.models.engine()) as engine:
        return seen_by(engine, still, order, sight)


def seen_by(engine: MaskEngine, still: Still, order: PhotoOrder, sight: Sight, place: int = 0) -> PhotoResult:
    """As `segment`, on an engine that may have seen other photos: it forgets them first.

    `place`: the index under which the engine was told of this photo ahead, if it was.
    """
    began = time.monotonic()
    bgr, frame, cast = still.bgr, still.frame, order.cast
    result = _seen(engine, still, order, sight, place)
    target, scene = _scene(result, order)
    shown_tracks = tuple(track for track in scene.tracks if track.state == "tracked")
    if order.box_xyxy is None:
        shown_tracks = tuple(cast.seen(result))
    base = cv2.cvtColor(frame.i420, cv2.COLOR_YUV2BGR_I420)
    height, width = bgr.shape[:2]
    result = _cropped(result, width, height)
    mask = _mask(result, shown_tracks, cast.object is not None)
    alpha = cutout.matte(mask, cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))
    return PhotoResult(
        name=still.name,
        result=result,
        cast=cast,
        shown=shown_tracks,
        annotated=_over(bgr, base, draw(frame, scene, "annotated", target)),
        overlay=_over(bgr, base, draw(frame, scene, "overlay", target)),
        cutout=cutout.rgba(bgr, alpha),
        seconds=time.monotonic() - began,
    )


def write(result: PhotoResult, folder: Path) -> list[Path]:
    """The three pictures and result.json in `folder`, which is made if need be: all four, or none.

    Raises:
        OutputError: the folder cannot be made or written to, or the disk is full.
    """
    pictures = (result.annotated, result.overlay, result.cutout)
    paths = [folder / name for name in OUTPUTS]
    with output_folder(folder), ExitStack() as stack:
        *besides, said = [stack.enter_context(written(path)) for path in paths]
        with ThreadPoolExecutor(len(besides)) as pool:
            list(pool.map(_write_png, paths, besides, pictures))
        said.write_text(json.dumps(result.json, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return paths


def check_outputs(file: Path, folder: Path) -> None:
    """Raises `OutputError` where a picture would be written over the photo that it is made of."""
    for name in OUTPUTS:
        check_file(folder / name, [file])


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Make the folder for results; what was made and stays empty is removed in the end. Raises `OutputError`."""
    try:
        made = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"cannot make the folder {folder}: {exc.strerror or exc}; choose another one") from exc
    try:
        check_folder(folder)
        yield
    finally:
        with suppress(OSError):
            for each in made:  # deepest first; the first one with something in it ends it
                each.rmdir()


def _write_png(path: Path, beside: Path, picture: np.ndarray) -> None:
    done, encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise OutputError(f"{path}: a picture of {picture.shape[1]}x{picture.shape[0]} cannot be encoded as PNG")
    try:
        beside.write_bytes(encoded.tobytes())
    except OSError as exc:
        raise refused(path, exc) from exc


def _seen(engine: MaskEngine, still: Still, order: PhotoOrder, sight: Sight, place: int) -> FrameResult:
    cast = order.cast
    if order.box_xyxy is not None:
        # Whoever is in the box is meant: everybody's object is needed.
        cast = replace(cast, members=(*cast.members, ""))
    # Of a processor's own for each photo, so that ids begin anew; it resets the engine.
    processor = sight.processor(cast, still=True, engine=engine)
    picture = processor.begin(still.frame)
    engine.encode(replace(picture, index=place))
    result = processor.finish(still.frame, picture)
    if order.box_xyxy is not None and _in_box(result, order.box_xyxy) is None:
        return _prompted(engine, still.frame, order.box_xyxy, order.cast)
    return result


def _scene(result: FrameResult, order: PhotoOrder) -> tuple[Target, FrameResult]:
    """What is drawn."""
    if order.box_xyxy is None:
        scene, target = order.cast.scene(result)
        return target, scene
    chosen = _in_box(result, order.box_xyxy)
    tracks = () if chosen is None else (chosen,)
    return Target(None, order.cast.object), replace(result, tracks=tracks)


def _in_box(result: FrameResult, box: Box) -> Track | None:
    """The person whom a drawn box is around: their face is in it, and of several the one that fills it best."""

    def fits(track: Track) -> float:
        return overlap(track.box_xyxy, box) * _iou(track.box_xyxy, box)

    inside = [
        track
        for track in result.tracks
        if track.state == "tracked"
        and overlap(track.box_xyxy, box) > _LEAST_OVERLAP
        and (track.face_xyxy is None or overlap(track.face_xyxy, box) > 0.5)
    ]
    return max(inside, key=fits, default=None)


def _iou(a: Box, b: Box) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / max(both, 1e-9)


def _prompted(engine: MaskEngine, frame: Frame, box: Box, cast: Cast) -> FrameResult:
    """The person whom the engine finds on its current picture, `frame`, in a drawn box that holds no face."""
    x0, y0, x1, y1 = clip_box(box, frame.width, frame.height)
    if x1 - x0 < 8 or y1 - y0 < 8:
        raise ConfigError(
            f"the box {','.join(f'{side:g}' for side in box)} holds nothing of a picture of "
            f"{frame.width}x{frame.height}: give x0,y0,x1,y1 in its pixels"
        )
    engine.reset()
    engine.prompt(1, box_xyxy=(x0, y0, x1, y1))
    region = engine.propagate([1]).get(1)
    found = None if region is None else mask_box(region, frame.width, frame.height)
    tracks: tuple[Track, ...] = ()
    painter = LabelPainter()
    painter.begin(frame.width, frame.height)
    if region is not None and found is not None:
        painter.paint(region, 1)
        part = None if cast.object is None else engine.part(1, cast.object)
        if part is not None:
            painter.paint_part(part, 1)
        tracks = (Track(1, None, None, "tracked", found, None, 1, cast.object if part is not None else None),)
    return FrameResult(
        0, 0.0, frame.width, frame.height, engine.name, True, tracks, painter.finish() if tracks else None
    )


def _cropped(result: FrameResult, width: int, height: int) -> FrameResult:
    """The result of the padded frame for the photo's own size."""
    if (result.width, result.height) == (width, height):
        return result
    labels = result.label_map
    return replace(
        result,
        width=width,
        height=height,
        label_map=None if labels is None else np.ascontiguousarray(labels[:height, :width]),
        tracks=tuple(
            replace(
                track,
                box_xyxy=clip_box(track.box_xyxy, width, height),
                face_xyxy=None if track.face_xyxy is None else clip_box(track.face_xyxy, width, height),
            )
            for track in result.tracks
        ),
    )


def _mask(result: FrameResult, tracks: tuple[Track, ...], part: bool) -> np.ndarray:
    mask = np.zeros((result.height, result.width), bool)
    for track in tracks:
        if not part:
            mask |= result.mask(track)
        elif track.object_prompt is not None:
            mask |= result.object_mask(track)
    return mask.view(np.uint8)


def _over(bgr: np.ndarray, base: np.ndarray, i420: np.ndarray) -> np.ndarray:
    """What was drawn, put on the photo itself: elsewhere it keeps every value, its fine colours included.

    Args:
        bgr: the photo.
        base: the frame before drawing, through I420.
        i420: the frame after it.
    """
    height, width = bgr.shape[:2]
    drawn = cv2.cvtColor(i420, cv2.COLOR_YUV2BGR_I420)[:height, :width]
    before = base[:height, :width]
    # Two saturating steps instead of one in 16 bits: brighter parts, then darker ones.
    over: np.ndarray = cv2.subtract(cv2.add(bgr, cv2.subtract(drawn, before)), cv2.subtract(before, drawn))
    return over
