"""A job's files: `ID/input` as uploaded, `ID/work` while its process writes, `ID/output` once it is done.

What is half written never has its final name: an upload lies in `ID.upload` until it is whole, results lie in `work`
until the process has ended well, and what is being deleted is called `ID.gone` first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from streamer.egress.poster import poster
from streamer.errors import DiskFull, FileUnknown, JobError
from streamer.jobs.job import Output
from streamer.service.settings import Settings

UPLOAD, GONE = ".upload", ".gone"
POSTER = "poster.jpg"
VIDEOS = (".mp4", ".mov", ".webm", ".mkv")
MIN_FREE_BYTES = 500_000_000
"""Left to the rest of the machine: live recordings go to the same disk."""


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The folder of one job. Every method blocks; those that write raise `DiskFull` or `JobError`."""

    path: Path

    @property
    def input(self) -> Path:
        return self.path / "input"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def output(self) -> Path:
        return self.path / "output"

    def prepare(self, settings: Settings, resume: bool) -> Path:
        """Make it ready for a process; without `resume` what an earlier one left is removed. The settings' file."""
        config = self.path / "config.yaml"
        # What concerns models and pictures; addresses and secrets are none of the process's business.
        values = settings.model_dump(mode="json", exclude={"token", "data_dir", "service", "webrtc", "jobs"})
        with writing(self.path):
            if not resume:
                shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(parents=True, exist_ok=True)
            config.write_text(yaml.safe_dump(values), encoding="utf-8")
        return config

    def settle(self) -> tuple[Output, ...]:
        """Give what is in `work` its final place, with a poster; the files there are then."""
        _make_poster(self.work)
        with writing(self.path):
            shutil.rmtree(self.output, ignore_errors=True)
            self.work.rename(self.output)
        return tuple(Output(name, path.stat().st_size) for name, path in _files(self.output))

    def find(self, name: str) -> Path:
        """A result by its name. Raises `FileUnknown`, whatever the name holds."""
        return self.find_all([name])[0]

    def find_all(self, names: Sequence[str]) -> list[Path]:
        """Results by their names, in one look at the disk: a job has up to 800. Raises `FileUnknown`."""
        known = dict(_files(self.output))
        for name in names:
            if name not in known:
                raise FileUnknown(f"this job has no file {name[:80]!r}; its `files` name them")
        return [known[name] for name in names]

    def drop_results(self) -> None:
        """Remove everything but what was uploaded."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.rmtree(self.output, ignore_errors=True)

    def remove(self) -> None:
        """Remove the whole folder: out of sight at once, whatever the removal takes."""
        gone = self.path.with_name(self.path.name + GONE)
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def new_id() -> str:
    """A name that nobody guesses and no file system minds."""
    return secrets.token_hex(8)


def sweep(root: Path) -> None:
    """Remove uploads that never became whole and deletions that a crash cut off. For the start, before any begin."""
    for leftover in [*root.glob(f"*{UPLOAD}"), *root.glob(f"*{GONE}")]:
        shutil.rmtree(leftover, ignore_errors=True)


def check_space(root: Path, max_total_bytes: int) -> int:
    """Bytes that jobs may still write. Raises `DiskFull` where there are none. Walks the folder: blocks."""
    used = sum(path.stat(follow_symlinks=False).st_size for path in _walk(root))
    if used >= max_total_bytes:
        raise DiskFull(
            f"jobs take {used / 1e9:.1f} GB, and jobs.max_total_bytes allows {max_total_bytes / 1e9:.1f} GB: "
            "delete finished jobs"
        )
    free = shutil.disk_usage(root).free - MIN_FREE_BYTES
    if free <= 0:
        raise DiskFull(f"the disk of {root} is nearly full: free some space, or delete finished jobs and recordings")
    return min(max_total_bytes - used, free)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the disk as this project's own."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"the disk of {path.parent} is full: free some space") from exc
        raise JobError(f"cannot write to {path}: {exc.strerror or exc}") from exc


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Files below `folder` by their names in it; links are none."""
    found = [(str(PurePosixPath(path.relative_to(folder))), path) for path in _walk(folder)]
    return sorted(found, key=lambda entry: (entry[0].count("/"), entry[0]))


def _walk(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            # Gone between listing and looking: not there.
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    path.stat()
                    yield path


def _make_poster(folder: Path) -> None:
    """A small picture of the first video or the first annotated photo; one that cannot be made is left out."""
    names = [path for _, path in _files(folder)]
    shown = [path for path in names if path.suffix in VIDEOS or path.name == "annotated.png"]
    jpeg = poster(shown[0]) if shown else None
    if jpeg is not None:
        with contextlib.suppress(OSError):
            (folder / POSTER).write_bytes(jpeg)
