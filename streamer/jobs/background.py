"""A job's process: the lowest priority, SIGTERM taken as SIGINT, and an end when the service is gone.

`python -P -m streamer.jobs.background streamer ARGUMENT…`. The priority is set in here and first of all, so that no
thread of the job ever runs at another one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

from streamer import lifeline

NICE = 19
AUTOGROUP = Path("/proc/self/autogroup")
_TRIES = 20
_RETRY_SECONDS = 0.12


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
    if AUTOGROUP.exists():
        _lower_session()


def _lower_session() -> None:
    """The same for this process's session: where Linux groups processes by it, priorities count only within.

    In the service's own session the job would use up the service's share of a busy machine.
    """
    for _ in range(_TRIES):
        try:
            AUTOGROUP.write_text(str(NICE))
            return
        except BlockingIOError:  # one change in a tenth of a second, system-wide
            time.sleep(_RETRY_SECONDS)
        except OSError:
            return


if __name__ == "__main__":
    main()
