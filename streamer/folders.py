"""Why a folder cannot be used, in words: what the system says of it is often about something else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

CHOOSE = "choose another folder with --data-dir or STREAMER_DATA_DIR"


def unusable(folder: Path, error: OSError) -> str:
    """What is wrong with the data folder, or one inside it, and what to do: "/a/b is a file, not a folder; choose …".

    Looks at the disk: blocks.

    Args:
        error: of making the folder, or of writing to it.
    """
    there = _nearest(folder)
    if there.is_symlink() and not there.exists():
        return f"{there} is a link that leads nowhere; remove it, or {CHOOSE}"
    if not there.is_dir():
        return f"{there} is a file, not a folder; {CHOOSE}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to write in {there}; change its owner or mode, or {CHOOSE}"
    if error.errno == errno.EROFS:
        return f"{there} is on a disk that is read-only; {CHOOSE}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {there} is full; free some space, or {CHOOSE}"
    if there != folder:
        # /proc, say: what cannot hold a folder answers that the new one is not there.
        why = "" if error.errno == errno.ENOENT else f" ({error.strerror or error})"
        return f"no folder can be made in {there}{why}; {CHOOSE}"
    return f"{there} cannot be written to ({error.strerror or error}); {CHOOSE}"


def _nearest(folder: Path) -> Path:
    """The folder, or else the first above it, of which there is something."""
    return next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path(folder.anchor or "."))
