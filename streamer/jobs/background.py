"""A job's process: a low priority, SIGTERM taken as SIGINT, and an end when the service is gone.

`python -P -m streamer.jobs.background PRIORITY MODULE ARGUMENT…`. The priority is set in here and first of all, so that
no thread of the job ever runs at another one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import psutil

from streamer import lifeline

NICE = {"idle": 19, "low": 10, "normal": 0}
"""By `jobs.priority`. Beside a busy program, nice 10 gets a tenth of the CPU, and nice 19 a hundredth."""
AUTOGROUP = Path("/proc/self/autogroup")
_TRIES = 20
_RETRY_SECONDS = 0.12


def main() -> None:
    """Lower the priority and become the module named in the arguments."""
    lower_priority(sys.argv.pop(1))
    # A service that was started in the background of a script inherits, and passes on, that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What ends a job asks it to close its file properly: the lifeline's signal, a shutdown of the machine, Ctrl-C.
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    lifeline.main()


def lower_priority(priority: str) -> None:
    """Take `priority`, as far as the system lets a process say so. `idle`: what nobody else wants, CPU and disk."""
    nice = NICE[priority]
    if not nice:
        return
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    if priority == "idle":
        with contextlib.suppress(OSError, AttributeError):
            # Linux: nice 19 alone makes a waking thread of a live stream wait; this class does not.
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with contextlib.suppress(OSError, AttributeError, ValueError, psutil.Error):
            psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
    if AUTOGROUP.exists():
        _lower_session(nice)


def _lower_session(nice: int) -> None:
    """The same for this process's session: where Linux groups processes by it, priorities count only within.

    In the service's own session the job would use up the service's share of a busy machine.
    """
    for _ in range(_TRIES):
        try:
            AUTOGROUP.write_text(str(nice))
            return
        except BlockingIOError:  # one change in a tenth of a second, system-wide
            time.sleep(_RETRY_SECONDS)
        except OSError:
            return


if __name__ == "__main__":
    main()
