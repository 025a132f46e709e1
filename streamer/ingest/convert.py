"""Decoded pictures of any kind to I420: the one road from PyAV into the rest of the program."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from streamer.errors import SourceUnusable
from streamer.frames import MIN_SIDE, planes

_local = threading.local()
_SQUARE = Fraction(1)
_MAX_STRETCH = 4
"""Pixel aspect ratios beyond 1:4 are taken for garbage in the header."""

_PLANAR = ("yuv420p", "yuvj420p")
_LUMA_LIMIT, _CHROMA_LIMIT = (219 / 255, 16.0), (224 / 255, 128 - 128 * 224 / 255)
"""Gain and offset from full to limited range. Five times as fast as swscale, and many cameras send full range."""


def to_i420(frame: av.VideoFrame, max_size: tuple[int, int], pixel_aspect: Fraction | None = None) -> np.ndarray:
    """The picture of `frame` as it is meant to be seen.

    Rotated and mirrored by its display matrix (right angles only), pixels made square, scaled down with its aspect kept
    until it fits `max_size`, odd sides cropped by one pixel, full range brought to limited range, everything else
    (10 bit, 4:4:4, RGB, grey) to 4:2:0 at 8 bit. The YCbCr matrix is kept as it came (players guess it from the size,
    and so undo what cameras do); RGB goes through BT.601. A plain even yuv420p picture costs one copy.

    Args:
        frame: any software pixel format.
        max_size: width, height in pixels.
        pixel_aspect: width by height of one pixel, where the stream says so; None: square.

    Returns:
        (H * 3 // 2, W) uint8, new, C-contiguous.

    Raises:
        SourceUnusable: a side would be under 16 pixels, or the pixel format cannot be converted.
    """
    turn = _Turn.of(frame)
    room = max_size[::-1] if turn.transposed else max_size
    size = _fitted(frame.width, frame.height, room, pixel_aspect)
    if min(size) < MIN_SIDE:
        raise SourceUnusable(
            f"the picture is {frame.width}x{frame.height}, and would be shown with {size[0]}x{size[1]}: "
            f"each side needs {MIN_SIDE} pixels or more; choose another source or profile"
        )
    if size != _even(frame.width, frame.height) or frame.format.name not in _PLANAR:
        return turn.copy(_rescaled(frame, size), size)
    return turn.copy(frame, size, to_limited=_is_full_range(frame))


class _Turn:
    """A rotation by a right angle and/or a mirror: transpose first, then flip."""

    def __init__(self, transposed: bool, flip_x: bool, flip_y: bool) -> None:
        self.transposed = transposed
        self._flip = (-1 if flip_x and flip_y else 1 if flip_x else 0) if flip_x or flip_y else None

    @classmethod
    def of(cls, frame: av.VideoFrame) -> _Turn:
        """From the frame's display matrix [a b u c d v x y w]: x' = a x + c y, y' = b x + d y."""
        # Not `frame.side_data`: the frame keeps that container, which keeps the frame, and some 160 pictures (230 MB at
        # 720p) wait for the garbage collector.
        side_data: Any = SideDataContainer(frame)  # type: ignore[call-arg]  # stub of PyAV 18
        if Type.DISPLAYMATRIX not in side_data:
            return _STRAIGHT
        matrix = memoryview(side_data[Type.DISPLAYMATRIX])
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def copy(self, frame: av.VideoFrame, size: tuple[int, int], to_limited: bool = False) -> np.ndarray:
        """Copy the top left `size` (even; before the turn) of a planar 4:2:0 frame out of its padded planes, turned."""
        width, height = size
        shown = (height, width) if self.transposed else (width, height)
        i420 = np.empty((shown[1] * 3 // 2, shown[0]), np.uint8)
        shapes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
        for index, target in enumerate(planes(i420)):
            plane, (rows, columns) = frame.planes[index], shapes[index]
            source = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:rows, :columns]
            if self.transposed:
                source = cv2.transpose(source)
            if self._flip is not None:
                source = cv2.flip(source, self._flip)
            if to_limited:
                gain, offset = _CHROMA_LIMIT if index else _LUMA_LIMIT
                cv2.convertScaleAbs(source, dst=target, alpha=gain, beta=offset)
            else:
                target[:] = source
        return i420


_STRAIGHT = _Turn(False, False, False)


def _is_full_range(frame: av.VideoFrame) -> bool:
    name = frame.format.name
    return frame.format.is_rgb or name.startswith("yuvj") or frame.color_range == ColorRange.JPEG


def _even(width: int, height: int) -> tuple[int, int]:
    return width & ~1, height & ~1


def _fitted(width: int, height: int, room: tuple[int, int], pixel_aspect: Fraction | None) -> tuple[int, int]:
    """Even width and height: square pixels, inside `room`, never scaled up but for the pixel aspect."""
    aspect = pixel_aspect or _SQUARE
    if not Fraction(1, _MAX_STRETCH) <= aspect <= _MAX_STRETCH:
        aspect = _SQUARE
    # The longer pixel side is kept and the other stretched, so that no detail is lost.
    full_width, full_height = width * max(aspect, _SQUARE), height / min(aspect, _SQUARE)
    scale = min(_SQUARE, room[0] / full_width, room[1] / full_height)
    return _even(int(full_width * scale), int(full_height * scale))


def _rescaled(frame: av.VideoFrame, size: tuple[int, int]) -> av.VideoFrame:
    """`frame` as yuv420p of limited range. Where `size` is the even part of an odd picture, it is not resampled."""
    width, height = size
    if size == _even(frame.width, frame.height):
        width, height = frame.width, frame.height
    reformatter: VideoReformatter | None = getattr(_local, "reformatter", None)
    if reformatter is None:
        # One a thread, kept: setting up a scaler costs more than running it.
        reformatter = _local.reformatter = VideoReformatter()
    try:
        return reformatter.reformat(
            frame,
            width,
            height,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601 if frame.format.is_rgb else None,
            interpolation=Interpolation.BILINEAR,
            src_color_range=ColorRange.JPEG if _is_full_range(frame) else ColorRange.MPEG,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
    except (av.error.FFmpegError, ValueError) as exc:
        raise SourceUnusable(
            f"pixel format {frame.format.name} at {frame.width}x{frame.height} cannot be converted ({exc}); "
            "re-encode the video as H.264 yuv420p"
        ) from exc
