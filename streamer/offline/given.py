"""Pictures as users of the Python API give them: paths, arrays, PIL images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from streamer.errors import PhotoRefused
from streamer.offline import photo
from streamer.service.photo_folder import expanded
from streamer.vision import photos

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike = str | PathLike[str] | np.ndarray | Image


def each_photo(given: ImageLike | Iterable[ImageLike]) -> Iterator[ImageLike]:
    """One by one: a path, what is in a folder, an array, or each of several."""
    if isinstance(given, str | PathLike):
        yield from expanded(Path(given))
    elif isinstance(given, np.ndarray) or hasattr(given, "getbands"):
        yield given  # type: ignore[misc]  # PIL is known by its method, so that it need not be imported
    elif isinstance(given, Iterable):
        for one in given:
            yield from each_photo(one)


def picture_of(given: Any) -> tuple[np.ndarray, str]:
    """(H, W, 3) uint8 BGR, and what to call it. Raises `PhotoRefused`."""
    if isinstance(given, str | PathLike):
        path = Path(given).expanduser()
        return photo.decode(path), path.name
    name = "the picture"
    if hasattr(given, "getbands"):  # PIL, which need not be imported to know it
        given = np.asarray(given.convert("RGB"))
    if not isinstance(given, np.ndarray):
        raise PhotoRefused(
            f"a picture cannot be of type {type(given).__name__}: give a path, an RGB array or a PIL image"
        )
    if given.dtype != np.uint8 or given.ndim not in (2, 3) or (given.ndim == 3 and given.shape[2] not in (1, 3, 4)):
        raise PhotoRefused(
            f"an array of {given.dtype} {given.shape} is no picture: give (H, W, 3) uint8 RGB, values 0 to 255"
        )
    if given.shape[0] * given.shape[1] >= photos.REFUSED_FROM_PIXELS:
        raise PhotoRefused(f"an array of {given.shape[1]}x{given.shape[0]} pixels is too large; scale it down")
    if given.ndim == 2 or given.shape[2] == 1:
        return cv2.cvtColor(np.ascontiguousarray(given), cv2.COLOR_GRAY2BGR), name
    return np.ascontiguousarray(given[..., 2::-1]), name
