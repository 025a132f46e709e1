"""A module to run as a child process: starts a process of its own, says so, and waits."""

from __future__ import annotations

import subprocess
import sys
import time

if __name__ == "__main__":
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(f"waiting {other.pid}", flush=True)
    time.sleep(60)
