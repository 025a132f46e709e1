"""Photos as files: what is taken from a folder, how a file is read and named in messages, where its results go."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from streamer.errors import PhotoRefused
from streamer.vision.photos import MAX_PHOTO_BYTES, too_many_bytes

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
"""What is taken from a folder; a file that is named by itself is taken whatever its name."""

MAX_NAME = 100
"""Characters of a folder's name: deep folders and long names do not unpack everywhere."""
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def expanded(path: Path) -> Iterator[Path]:
    """The path itself, or the images in a folder. A folder without images gives itself: it cannot be read as one."""
    path = path.expanduser()
    if not path.is_dir():
        yield path
        return
    yield from images(path) or [path]


def images(folder: Path, all_files: bool = False) -> list[Path]:
    """Image files in a folder that are not hidden, by name; with `all_files` every file. Empty where the folder cannot
    be read."""
    try:
        return sorted(
            file
            for file in folder.iterdir()
            if (not file.is_dir() if all_files else file.name[0] != "." and file.suffix.lower() in IMAGE_SUFFIXES)
        )
    except OSError:
        return []


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder, by name; hidden ones left out. Raises `OSError`."""
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")


def shown(file: Path) -> str:
    """The path on one line; a name that is not UTF-8 is still a file, and is shown with marks for the odd bytes."""
    text = str(file).encode("utf-8", "replace").decode("utf-8")
    return "".join(character if character.isprintable() else "?" for character in text)


def read_file(file: Path, name: str | None = None) -> bytes | PhotoRefused:
    """The bytes of a photo, or why they are not to be had; messages call it `name`. Blocks."""
    name = name or shown(file)
    try:
        if file.is_dir():
            return PhotoRefused(f"{name}: no image files that can be read in this folder")
        if not file.exists():
            return PhotoRefused(f"{name}: no such file; check the path")
        if not file.is_file():
            return PhotoRefused(f"{name}: not a file")
        size = file.stat().st_size
        return too_many_bytes(size, name) if size > MAX_PHOTO_BYTES else file.read_bytes()
    except (OSError, ValueError) as exc:
        return PhotoRefused(f"{name}: cannot be read ({exc}); check its permissions")


def result_folders(names: Sequence[str]) -> list[str]:
    """For each of these photos, by its file's name, what the folder with its results is called: like the photo, and no
    two alike, not even for a system to which "A" and "a" are one."""
    folders: list[str] = []
    taken: set[str] = set()
    for given in names:
        wanted = name = fit(PurePosixPath(given).stem)
        number = 1
        while (same := unicodedata.normalize("NFC", name).casefold()) in taken:
            number += 1
            name = f"{wanted} ({number})"
        taken.add(same)
        folders.append(name)
    return folders


def fit(name: str) -> str:
    """A name as every system can unpack it: no path, no device, nothing that a file may not be called."""
    fit = _FORBIDDEN.sub("_", name)[:MAX_NAME].strip(". ") or "photo"
    return f"_{fit}" if _DEVICE.fullmatch(fit) else fit
