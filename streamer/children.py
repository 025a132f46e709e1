"""Child processes of `streamer up`: started in their own group, tied to this process, ended in order."""

from __future__ import annotations

import contextlib
import os
import signal
import site
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import streamer
from streamer.errors import StreamerError

END_SECONDS = 10.0
"""Time a child has to end after SIGTERM before its whole group is killed."""

OWN_REASON = "streamer: "
"""What a command puts before the reason of its failure."""

TAIL_LINES = 50
"""Lines of a child's output that are kept to say why it ended."""


class ChildEnded(StreamerError):
    """A child process ended by itself."""


class Child:
    """A Python module as a process. Its output is read by a thread of this object; the last lines are kept.

    The child ends with this process however that ends (see `lifeline`). Use it as a context manager.
    """

    def __init__(self, name: str, module: str, args: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.echo = False
        """Pass the child's lines on to this process's stderr."""
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process = subprocess.Popen(
            # -P: the folder that the user happens to stand in must not lend its modules to the child.
            [sys.executable, "-P", "-m", "streamer.lifeline", module, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **import_path(), "PYTHONUNBUFFERED": "1", **(env or {})},
            # A group of its own: Ctrl-C at the terminal reaches `up` only, which ends its children in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"output-{name}", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises `ChildEnded` if it ended: with the reason that it gave, else with the last line that it said."""
        status = self._process.poll()
        if status is None:
            return
        self._reader.join(1.0)
        if status < 0:
            # What it said before has nothing to do with it.
            raise ChildEnded(f"the {self.name} was ended by signal {signal.Signals(-status).name}")
        lines = [line for line in reversed(list(self._tail)) if line.strip()]
        own = [line.removeprefix(OWN_REASON) for line in lines if line.startswith(OWN_REASON)]
        raise ChildEnded(f"the {self.name} ended (exit status {status}): {next(iter(own or lines), 'it said nothing')}")

    def line_with(self, prefix: str) -> str | None:
        """The newest kept line that starts with `prefix`, without it; None if there is none yet."""
        return next((line[len(prefix) :] for line in reversed(list(self._tail)) if line.startswith(prefix)), None)

    def close(self) -> None:
        """End it: SIGTERM, then SIGKILL to its group. Bounded; twice is fine."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(1.0)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        """Body of the thread: until the child closes its output."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._tail.append(line.rstrip())
            if self.echo:
                print(f"{self.name}: {line.rstrip()}", file=sys.stderr)


def import_path() -> dict[str, str]:
    """PYTHONPATH for a checkout that is not installed; an installed package is found anyway."""
    root = str(Path(streamer.__file__).parent.parent)
    if root in site.getsitepackages():
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
