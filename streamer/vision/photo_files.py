"""The gallery's folders of files: photos as given, thumbnails, rejected faces. Named by id, never by person."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from streamer.errors import PhotoUnknown


class PhotoFiles:
    """`photos/ID.EXT`, `thumbnails/ID.jpg`, `rejected/ID.jpg` under a folder, readable by their owner alone."""

    def __init__(self, folder: Path) -> None:
        self._photos = folder / "photos"
        self._thumbnails = folder / "thumbnails"
        self._rejected = folder / "rejected"
        self.found = folder / "found-photos"
        for made in (self._photos, self._thumbnails, self._rejected):
            made.mkdir(mode=0o700, exist_ok=True)

    def write(self, photo_id: str, extension: str, data: bytes, thumbnail: bytes) -> None:
        """Both files of a new photo, on disk when this returns. Raises `OSError`; then one of them may lie there."""
        photo, small = self.paths(photo_id, extension)
        _write(photo, data)
        _write(small, thumbnail)

    def photo(self, photo_id: str, extension: str) -> bytes:
        """The photo as it was given. Raises `PhotoUnknown` where its file is gone."""
        return _read(self.paths(photo_id, extension)[0])

    def thumbnail(self, photo_id: str) -> bytes:
        """Its JPEG thumbnail. Raises `PhotoUnknown` where its file is gone."""
        return _read(self._thumbnails / f"{photo_id}.jpg")

    def write_rejected(self, rejection_id: str, jpeg: bytes) -> None:
        """The crop of a rejected face, on disk when this returns. Raises `OSError`; then it may lie there."""
        _write(self.rejected_path(rejection_id), jpeg)

    def rejected(self, rejection_id: str) -> bytes:
        """The JPEG crop of a rejected face. Raises `PhotoUnknown` where its file is gone."""
        return _read(self.rejected_path(rejection_id))

    def rejected_path(self, rejection_id: str) -> Path:
        """Its crop."""
        return self._rejected / f"{rejection_id}.jpg"

    def paths(self, photo_id: str, extension: str) -> tuple[Path, Path]:
        """Photo and thumbnail."""
        return self._photos / f"{photo_id}.{extension}", self._thumbnails / f"{photo_id}.jpg"

    def strays(self, ids: Collection[str]) -> list[Path]:
        """Files of no photo and no rejected face in `ids`."""
        files = [path for folder in (self._photos, self._thumbnails, self._rejected) for path in folder.iterdir()]
        return [path for path in files if path.stem not in ids and path.is_file()]

    def set_aside(self, files: Iterable[Path]) -> int:
        """Move those of `files` that are photos to the folder `found`; how many."""
        photos = [path for path in files if path.parent == self._photos]
        if photos:
            self.found.mkdir(mode=0o700, exist_ok=True)
        for path in photos:
            os.replace(path, self.found / path.name)
        return len(photos)


def unlink(files: Iterable[Path]) -> None:
    """Delete files; those that are gone already are fine."""
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise PhotoUnknown(f"the file {path} of a photo is gone; remove that photo and add it again") from exc
