"""The process of one job: started in its own session, its progress read from its output, its end explained."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from streamer.children import import_path
from streamer.jobs.job import Job, Progress

TAIL_LINES = 20
"""Lines on its stderr that are kept to say why it ended."""
NAME = "streamer: "
"""What a command puts before the reason of its failure."""
INTERRUPTED = (130, -signal.SIGINT)
"""Exit statuses of a command that was asked to end."""
ORPHAN_SECONDS = 12.0
"""How long a process of a killed service may take to end by itself; its lifeline gives it ten seconds."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended."""

    status: int
    """Exit status; -n where signal n ended it."""
    said: str | None
    """The last line on its stderr, without the program's name."""
    result: dict[str, Any] | None
    """What it said of its result."""

    @property
    def reason(self) -> str:
        """Why it failed, in one line."""
        if self.status < 0:
            name = signal.Signals(-self.status).name
            more = "; the machine may be out of memory" if self.status == -signal.SIGKILL else ""
            return f"the job's process was ended by signal {name}{more}"
        return self.said or f"the job's process ended with status {self.status} and said nothing"


class JobProcess:
    """A command as a process. `follow` on a thread of its own; the other methods from any.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("STREAMER_")}
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # the lifeline: it closes with this process
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            # Settings come by file, without the token; PYTHONUNBUFFERED for progress as it is made.
            env={**inherited, **import_path(), "PYTHONUNBUFFERED": "1"},
            # For the kill, to be spared the terminal's Ctrl-C, and for the priority (see `background`).
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.started: float | None = None
        with contextlib.suppress(psutil.Error):
            self.started = psutil.Process(self.pid).create_time()

    def follow(self, on_progress: Callable[[Progress], None]) -> Ending:
        """Read what the process says until it ended. Blocks."""
        complaints = threading.Thread(target=self._read_complaints, name=f"job-stderr-{self.pid}", daemon=True)
        complaints.start()
        result: dict[str, Any] | None = None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = _object(line)
            if isinstance(said.get("result"), dict):
                result = said["result"]
            elif (progress := _progress(said)) is not None:
                on_progress(progress)
        status = self._process.wait()
        # What it started itself goes with it; and without a holder its stderr ends.
        self.kill()
        complaints.join(5.0)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        return Ending(status, _last_word(self._tail), result)

    def interrupt(self) -> None:
        """Ask it to finish its file and end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and everything that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _read_complaints(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._tail.append(line.rstrip()[:2000])


def end_orphan(job: Job) -> None:
    """Wait for the process that an earlier service started for `job`, then kill it: two may not write one file."""
    if job.pid is None or job.pid_started is None:
        return
    with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
        process = psutil.Process(job.pid)
        if abs(process.create_time() - job.pid_started) > 0.5:
            return
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(ORPHAN_SECONDS)
            return
        os.killpg(job.pid, signal.SIGKILL)
        process.wait(5.0)


def _last_word(lines: Sequence[str]) -> str | None:
    """Why it ended: the line with the program's name in front, else the last one."""
    backwards = [line for line in reversed(lines) if line.strip()]
    own = next((line for line in backwards if line.startswith(NAME)), None)
    return own.removeprefix(NAME) if own is not None else next(iter(backwards), None)


def _object(line: str) -> dict[str, Any]:
    """The JSON object on a line; an empty one where there is none."""
    if not line.startswith("{"):
        return {}
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _progress(said: dict[str, Any]) -> Progress | None:
    done = said.get("done")
    if not isinstance(done, int):
        return None
    total, stage = said.get("total"), said.get("stage")
    return Progress(
        done,
        total if isinstance(total, int) else None,
        _number(said.get("fps")),
        _number(said.get("eta_seconds")),
        stage if isinstance(stage, str) else None,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
