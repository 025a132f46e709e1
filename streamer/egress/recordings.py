"""The folder of recordings: names, what is there, and what a crash left behind.

A recording that runs is `NAME.recording.mp4` and `NAME.recording.jsonl`; it loses the ".recording" when it ends. So a
file under its final name is whole, and one that plays only up to a crash is told by its name until it is adopted.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import re
import threading
import unicodedata
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import av

from streamer.egress.sidecar import trim
from streamer.errors import RecordingUnknown, StreamConflict

log = logging.getLogger(__name__)

RUNNING = ".recording"
_ID = re.compile(r"\w[\w.-]{0,199}")
_STARTED = re.compile(r"_(\d{8}T\d{6}Z)")
_TIME = "%Y%m%dT%H%M%SZ"
_given: deque[Path] = deque(maxlen=1000)
_giving = threading.Lock()


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording on disk."""

    id: str
    """The file name without its end."""
    path: Path
    sidecar: Path | None
    bytes: int
    started_at: datetime.datetime | None
    """UTC, from the file name."""
    running: bool


def base_name(stream_id: str, member: str | None, started_at: datetime.datetime) -> str:
    """`<stream>_<member or "all">_<UTC start>`, with nothing in it that a file system minds."""
    return f"{_safe(stream_id)}_{_safe(member or 'all')}_{started_at.strftime(_TIME)}"


def unused_name(folder: Path, name: str) -> str:
    """`name`, or `name_2` and so on where there is or was a recording of that name: an id is given once.

    Names hold the second in which they begin, so this process need remember those of the last seconds only. Blocks.
    """
    with _giving:
        unused, number = name, 2
        while folder / unused in _given or any(folder.glob(f"{unused}.*")):
            unused, number = f"{name}_{number}", number + 1
        _given.append(folder / unused)
    return unused


def _safe(name: str) -> str:
    """Letters and digits of any script; 40 characters are at most 160 bytes, and a file name takes 255."""
    return re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", name)).strip("-")[:40] or "unnamed"


def final_path(path: Path) -> Path:
    """`NAME.mp4` of `NAME.recording.mp4`."""
    return path.with_name(path.name.replace(f"{RUNNING}.", "."))


def keep_private(folder: Path) -> None:
    """Let nobody but the owner into `folder` and at the recordings in it: people are in them, and in their names.

    Blocks. What the file system refuses (somebody else's file) stays as it is, with a warning.
    """
    paths = [folder, *folder.glob("*.mp4"), *folder.glob("*.jsonl")] if folder.is_dir() else []
    for path in paths:
        try:
            if (path is folder or not path.is_symlink()) and path.stat().st_mode & 0o077:
                path.chmod(0o700 if path is folder else 0o600)
        except FileNotFoundError:
            continue
        except OSError as exc:
            log.warning("others may read %s, and it cannot be changed: %s; see to its owner", path, exc.strerror or exc)


def list_recordings(folder: Path) -> list[Recording]:
    """Recordings in `folder`, newest first; a folder that is not there holds none."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in folder.glob("*.mp4"):
            # Gone between listing and looking: not there.
            with contextlib.suppress(FileNotFoundError):
                found.append(_described(path))
    return sorted(found, key=lambda r: (r.started_at.timestamp() if r.started_at else 0.0, r.id), reverse=True)


def find_recording(folder: Path, recording_id: str) -> Recording:
    """The recording of that id. Raises `RecordingUnknown` where there is none, whatever the id holds."""
    if _ID.fullmatch(recording_id) and ".." not in recording_id:
        for name in (f"{recording_id}.mp4", f"{recording_id}{RUNNING}.mp4"):
            with contextlib.suppress(FileNotFoundError):
                return _described(folder / name)
    raise RecordingUnknown(f"no recording {recording_id[:80]!r}; GET /api/recordings lists them")


def delete_recording(folder: Path, recording_id: str) -> None:
    """Remove a recording and its sidecar. Raises `RecordingUnknown`, `StreamConflict` while it runs."""
    recording = find_recording(folder, recording_id)
    if recording.running:
        raise StreamConflict(f"recording {recording_id} is still running: stop it first")
    recording.path.unlink(missing_ok=True)
    if recording.sidecar is not None:
        recording.sidecar.unlink(missing_ok=True)


def _described(path: Path) -> Recording:
    running = path.stem.endswith(RUNNING)
    stem = path.stem.removesuffix(RUNNING)
    sidecar = path.with_suffix(".jsonl")
    match = _STARTED.search(stem)
    started = datetime.datetime.strptime(match[1], _TIME).replace(tzinfo=datetime.UTC) if match else None
    return Recording(stem, path, sidecar if sidecar.exists() else None, path.stat().st_size, started, running)


def adopt_leftovers(folder: Path) -> list[str]:
    """Give recordings that a crash cut off their final names; ids of those adopted. For start-up, before any runs.

    The sidecar is cut to the frames that the file really holds. A file without a single frame is removed.
    """
    adopted = []
    for path in sorted(folder.glob(f"*{RUNNING}.mp4")):
        try:
            target = settle(path)
        except OSError as exc:
            log.warning("cannot adopt recording %s: %s", path.name, exc)
            continue
        if target is not None:
            log.info("adopted recording %s, which a crash cut off", target.stem)
            adopted.append(target.stem)
    return adopted


def settle(path: Path) -> Path | None:
    """Make the sidecar of `NAME.recording.mp4` match its frames and give both their final names.

    A last fragment that is there in part is cut off: players stumble over it. Returns the new path, or None where there
    was no frame and both files were removed. Raises `OSError`.
    """
    frames = 0
    if path.exists():
        _cut_torn_end(path)
        frames = count_frames(path)
    sidecar = path.with_suffix(".jsonl")
    if not frames:
        path.unlink(missing_ok=True)
        sidecar.unlink(missing_ok=True)
        return None
    if sidecar.exists():
        trim(sidecar, frames)
        sidecar.rename(final_path(sidecar))
    target = final_path(path)
    path.rename(target)
    return target


def boxes(path: Path) -> list[tuple[bytes, int, int]]:
    """Type, start and end of each box at the top of an MP4 file; the last one's end may lie behind the file's."""
    found = []
    start, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while start + 8 <= size:
            file.seek(start)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            elif length == 0:
                length = size - start  # to the end of the file
            if length < 8:
                break
            found.append((head[4:8], start, start + length))
            start += length
    return found


def _cut_torn_end(path: Path) -> None:
    size = path.stat().st_size
    found = boxes(path)
    whole = [box for box in found if box[2] <= size]
    if whole and whole[-1][0] == b"moof":
        whole.pop()  # its pictures are what is torn
    end = whole[-1][2] if whole else size
    if end < size:
        os.truncate(path, end)


def count_frames(path: Path) -> int:
    """Frames that a player finds in the file; 0 for one that is no video."""
    count = 0
    with contextlib.suppress(av.error.FFmpegError, OSError), av.open(str(path)) as container:
        for packet in container.demux(video=0):
            count += packet.size > 0
    return count
