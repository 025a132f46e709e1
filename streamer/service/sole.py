"""One service a data folder: two would take each other's recordings and jobs for leftovers of a crash."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from streamer.errors import ConfigError
from streamer.folders import unusable
from streamer.locks import lock, lock_file

log = logging.getLogger(__name__)

NAME = "service.lock"
"""Holds the number of the process; the lock itself ends with that process, however it ends."""


@contextlib.contextmanager
def sole_service(folder: Path) -> Iterator[None]:
    """Hold the data folder, which is made if need be. Blocks only for the file system.

    Raises:
        ConfigError: another service holds it, it cannot be written to, or something else is where the lock should be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = contextlib.ExitStack()
        handle = held.enter_context(lock_file(folder / NAME))
    except OSError as exc:
        raise ConfigError(f"the data folder {folder} cannot be used: {unusable(folder, exc)}") from exc
    with held:
        _lock(handle, folder)
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield


def _lock(handle: int, folder: Path) -> None:
    try:
        lock(handle, wait=False)
    except BlockingIOError as exc:
        other = os.read(handle, 20).decode("ascii", "replace").strip()
        raise ConfigError(
            f"the data folder {folder} is used by another service (process {other or 'unknown'}); "
            "stop that one, or choose another folder with --data-dir"
        ) from exc
    except OSError as exc:  # some network file systems have no locks
        log.warning("%s cannot be locked (%s): see to it that only one service uses it", folder, exc.strerror)
