"""A small picture that stands for a video or a photo in a list."""

from __future__ import annotations

import io
from pathlib import Path

import av
from PIL import Image

SIDE = 640
"""Pixels of the longer side, at most."""
_QUALITY = 82


def poster(path: Path) -> bytes | None:
    """JPEG of a frame after a third of a video, or of a photo; None where there is no picture. Blocks."""
    try:
        picture = Image.open(path).convert("RGB") if path.suffix == ".png" else _frame(path)
        if picture is None:
            return None
        picture.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=_QUALITY)
    except (OSError, ValueError):  # PyAV's errors are one or the other
        return None
    return buffer.getvalue()


def _frame(path: Path) -> Image.Image | None:
    with av.open(str(path)) as container:
        if not container.streams.video:
            return None
        stream = container.streams.video[0]
        # Keyframes only: the one before that moment will do, and costs one frame's decoding.
        stream.codec_context.skip_frame = "NONKEY"
        if container.duration and container.duration > 0:
            container.seek(container.duration // 3)
        for frame in container.decode(stream):
            return Image.fromarray(frame.to_ndarray(format="rgb24"))
    return None
