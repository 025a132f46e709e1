"""Runs a Python module as `python -m` does, and ends it when the process that started it is gone.

`streamer up` starts its children as `python -m streamer.lifeline MODULE ARGUMENT…` with a pipe as their standard input.
The pipe closes with its holder, however that ends (kill -9 included), on every system.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

GRACE_SECONDS = 10.0
"""From the signal that asks the module to end until the process is ended."""


def main() -> None:
    """Watch the pipe and become the module named in the arguments."""
    pipe = os.dup(0)
    # The module gets an empty standard input: what it reads must not eat the pipe's end.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(pipe,), name="lifeline", daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch(pipe: int) -> None:
    """Body of the thread: blocks until the other end is closed."""
    while os.read(pipe, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
