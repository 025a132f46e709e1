"""A job's process: the lowest priority, SIGTERM taken as SIGINT, and an end when the service is gone.

`python -P -m streamer.jobs.background streamer ARGUMENT…`. The priority is set in here and first of all, so that no
thread of the job ever runs at another one.
"""

from __future__ import annotations

import contextlib
import os
import signal

import psutil

from streamer import lifeline

NICE = 19


def main() -> None:
    """Lower the priority and become the module named in the arguments."""
    lower_priority()
    # What ends a job asks it to close its file properly: the lifeline's signal, a shutdown of the machine, Ctrl-C.
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    lifeline.main()


def lower_priority() -> None:
    """CPU and disk only when nobody else wants them, as far as the system lets a process say so."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    with contextlib.suppress(OSError, AttributeError):
        # Linux: nice 19 still gets some per cent of a busy core and makes a waking thread wait; this class does not.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError, AttributeError, ValueError, psutil.Error):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


if __name__ == "__main__":
    main()
