"""Where output goes: written beside the final name, renamed when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from streamer.errors import OutputError

CONTAINERS = (".mp4", ".mov", ".mkv")
ALPHA_CONTAINERS = (".mov", ".webm")


def check_video(path: Path, transparent: bool, others: Sequence[Path]) -> None:
    """Whether a video can be written to `path`.

    Args:
        path: the final name.
        transparent: with an alpha channel.
        others: files that are read, or written as well.

    Raises:
        OutputError: the suffix, the folder, or it is one of `others`.
    """
    allowed = ALPHA_CONTAINERS if transparent else CONTAINERS
    if path.suffix.lower() not in allowed:
        kind = "a transparent video" if transparent else "a video"
        raise OutputError(
            f"{path}: {kind} cannot be written as {path.suffix or 'a file without suffix'}; use {' or '.join(allowed)}"
        )
    check_file(path, others)


def check_file(path: Path, others: Sequence[Path]) -> None:
    """Raises `OutputError` where no file can be written to `path`, or where it is one of `others`."""
    for other in others:
        if _same(path, other):
            raise OutputError(f"{path} is the input or another output of this run as well; choose another name")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give a file name in it")
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Raises `OutputError` where the folder is missing or nothing can be written to it."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise OutputError(f"cannot write to {folder}: it {what}; make the folder first, or choose another one")
    try:
        # Asking for permission bits says nothing about read-only file systems, nor to an administrator.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise refused(folder, exc) from exc


def refused(path: Path, error: OSError) -> OutputError:
    """What the operating system said, as a line for a person."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(f"cannot write {path}: {error.strerror}; free some space, then run it again")
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; choose another folder, or check its permissions"
    )


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to, which becomes `path` at the end; nothing is left on an error.

    Raises:
        OutputError: the disk does not take it.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as exc:
        raise refused(path, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _same(a: Path, b: Path) -> bool:
    if a.absolute() == b.absolute():
        return True
    try:
        return a.samefile(b)
    except OSError:
        return False
