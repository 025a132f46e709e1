"""Members as one file: a zip archive with a manifest, the photos as they were given, and the rejected faces.

    manifest.json        names, groups, notes of consent; of each photo its file, its face and where it came from
    photos/ID.EXT        as given
    rejected/ID.jpg      crops

Embeddings are left out: the model in use makes them anew. An archive comes from anywhere and is hostile until read:
every entry is checked, and read once, before anything of it is used.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from streamer.errors import GalleryError
from streamer.vision.photos import MAX_PHOTO_BYTES

FORMAT = "streamer-members"
VERSION = 1
MANIFEST = "manifest.json"
MAX_ENTRIES = 20_000
MAX_BYTES = 8_000_000_000
"""Of all entries, unpacked."""
MAX_MANIFEST_BYTES = 16_000_000
MAX_DIRECTORY_BYTES = 6_000_000
"""Of the zip's list of its entries: 300 for each of `MAX_ENTRIES`."""

_PHOTO = r"photos/[0-9A-Za-z_-]{1,64}\.[0-9a-z]{1,5}"
_REJECTED = r"rejected/[0-9A-Za-z_-]{1,64}\.jpg"
_ENTRY = re.compile(rf"{re.escape(MANIFEST)}|photos/|rejected/|{_PHOTO}|{_REJECTED}")
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OSError)
"""What zipfile raises on bytes that are not what they claim to be."""


def _proper(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError("a face's box is x0, y0, x1, y1 with x0 < x1 and y0 < y1")
    return box


Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
FaceBox = Annotated[tuple[Coordinate, Coordinate, Coordinate, Coordinate], AfterValidator(_proper)]


class _Entry(BaseModel):
    # A later program of the same version may say more.
    model_config = ConfigDict(extra="ignore", frozen=True)


class ArchivedPhoto(_Entry):
    """A photo in an archive."""

    path: str = Field(pattern=rf"^{_PHOTO}$")
    file: str = Field(max_length=300)
    source: str = Field(max_length=100)
    face: FaceBox
    remark: str | None = None
    added_at: str | None = None


class ArchivedRejection(_Entry):
    """A rejected face in an archive."""

    path: str = Field(pattern=rf"^{_REJECTED}$")
    source: str = Field(max_length=100)
    face: FaceBox
    added_at: str | None = None


class ArchivedMember(_Entry):
    """A member in an archive."""

    name: str = Field(max_length=300)
    display_name: str | None = Field(None, max_length=300)
    group: str | None = Field(None, max_length=300)
    consent: str | None = Field(None, max_length=10_000)
    created_at: str | None = None
    photos: list[ArchivedPhoto] = []
    rejected: list[ArchivedRejection] = []


class Manifest(_Entry):
    """What an archive says about itself."""

    format: Literal["streamer-members"]
    version: int
    created_at: str | None = None
    members: list[ArchivedMember]


class _Source(io.BufferedReader):
    """A file for zipfile, which reads the directory in one piece before its entries can be counted: not a huge one."""

    def __init__(self, file: Path) -> None:
        super().__init__(io.FileIO(file))
        self.whole_reads = MAX_DIRECTORY_BYTES
        """Bytes that may be read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.whole_reads:
            limit = f"{self.whole_reads // 10**6}"
            raise _TooLarge(f"its directory takes {size / 1e6:.0f} MB, above {limit}; export in groups")
        return super().read(size)


class _TooLarge(Exception):
    """The rest of a sentence about an archive."""


class Archive:
    """An opened archive, checked from end to end: every entry is one that belongs there, unpacks, and is not too large.

    Close it after use. Not thread-safe.
    """

    def __init__(self, file: Path, shown: str | None = None) -> None:
        """Raises `GalleryError`, in one line, for a file that is no archive of members or not a sound one. Blocks.

        Args:
            shown: What messages call it.
        """
        self._file = shown or str(file)
        with self._refusing(), contextlib.ExitStack() as opened:
            source = opened.enter_context(_Source(file))
            self._zip = opened.enter_context(zipfile.ZipFile(source))
            source.whole_reads = MAX_PHOTO_BYTES + 1
            self._opened = opened.pop_all()
        try:
            with self._refusing():
                self._check_entries()
                self.manifest = self._read_manifest()
                self._check_content()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the file. Twice is fine."""
        self._opened.close()

    def read(self, path: str) -> bytes:
        """An entry that the manifest names."""
        with self._refusing(), self._zip.open(path) as entry:
            # The sizes in a zip's directory are claims; no more than this is unpacked, whatever they say.
            return entry.read(MAX_PHOTO_BYTES + 1)[:MAX_PHOTO_BYTES]

    def _check_entries(self) -> None:
        entries = self._zip.infolist()
        if len(entries) > MAX_ENTRIES:
            raise self._refusal(f"holds {len(entries)} entries, more than {MAX_ENTRIES}; export in groups")
        names = [entry.filename for entry in entries]
        if MANIFEST not in names:
            raise self._refusal(
                f"holds no {MANIFEST}, so `streamer members export` did not write it; unpack it and import the folder"
            )
        seen: set[str] = set()
        for entry in entries:
            shown = ascii(entry.filename[:60])
            if _ENTRY.fullmatch(entry.filename) is None or entry.filename in seen:
                raise self._refusal(f"holds an entry that does not belong in it, {shown}; nothing was imported")
            seen.add(entry.filename)
            limit = MAX_MANIFEST_BYTES if entry.filename == MANIFEST else MAX_PHOTO_BYTES
            if entry.file_size > limit:
                raise self._refusal(f"{shown} in it unpacks to {entry.file_size / 1e6:.0f} MB, above {limit // 10**6}")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
                raise self._refusal(f"{shown} in it is encrypted or packed in an unusual way; export it again")
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > MAX_BYTES:
            raise self._refusal(f"unpacks to {unpacked / 1e9:.1f} GB, above {MAX_BYTES / 1e9:.0f}; export in groups")

    def _read_manifest(self) -> Manifest:
        with self._zip.open(MANIFEST) as entry:
            text = entry.read(MAX_MANIFEST_BYTES)
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise self._refusal(f"{MANIFEST} in it is not JSON: {exc}") from exc
        if isinstance(content, dict) and content.get("format") == FORMAT and content.get("version") != VERSION:
            version = ascii(content.get("version"))[:20]
            raise self._refusal(
                f"its format is version {version}, this program reads {VERSION}: upgrade, or export anew"
            )
        try:
            return Manifest.model_validate(content)
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise self._refusal(f"{MANIFEST} in it is not as it should be: {where}: {first['msg']}") from exc

    def _check_content(self) -> None:
        """What the manifest names is there, each entry once, and every entry unpacks to what its checksum says."""
        present = set(self._zip.namelist())
        used: set[str] = set()
        for member in self.manifest.members:
            for path in [photo.path for photo in member.photos] + [face.path for face in member.rejected]:
                if path not in present:
                    raise self._refusal(f"lacks {path}, which its manifest names; copy it again")
                if path in used:
                    raise self._refusal(f"its manifest names {path} twice; export it again")
                used.add(path)
        for path in sorted(used):
            with self._zip.open(path) as entry:
                while entry.read(1 << 20):
                    pass

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as exc:
            raise GalleryError(f"there is no file {self._file}; check the path") from exc
        except PermissionError as exc:
            raise GalleryError(f"no permission to read {self._file}; change its mode") from exc
        except _TooLarge as exc:
            raise self._refusal(str(exc)) from exc
        except _BROKEN as exc:
            raise self._refusal(
                f"is not a zip archive, or damaged or cut short ({exc}); copy or export it again"
            ) from exc

    def _refusal(self, what: str) -> GalleryError:
        return GalleryError(f"the archive {self._file}: {what}")
