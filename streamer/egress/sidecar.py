"""The JSON lines beside a recording: one per recorded frame, in the contract's result schema."""

from __future__ import annotations

import os
from pathlib import Path


class Sidecar:
    """Appends lines to a file. Not thread-safe. Raises `OSError` from every method, as the disk may be full."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        path.touch(mode=0o600, exist_ok=False)  # names of people stand in it
        self._file = path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        """Append `line` (without its end). It is with the operating system when this returns."""
        data = line + b"\n"
        written = self._file.write(data)
        if written != len(data):
            # A full disk takes part of a line first, and says so only to the next write.
            self._file.write(data[written:])
        self.lines += 1

    def close(self) -> None:
        """Twice is fine."""
        self._file.close()


def trim(path: Path, lines: int) -> int:
    """Cut the file after its first `lines` whole lines; a line without an end goes too. Returns the lines left.

    Raises:
        OSError: it cannot be read or cut.
    """
    kept = size = 0
    with path.open("rb") as file:
        for line in file:
            if kept == lines or not line.endswith(b"\n"):
                break
            kept += 1
            size += len(line)
    if size != path.stat().st_size:
        os.truncate(path, size)
    return kept
