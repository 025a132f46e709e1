"""From `streamer up` to the first annotated picture that a viewer has decoded."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from typing import Any

from streamer.bench.live import Bench
from streamer.bench.rig import Viewer, wait_for
from streamer.children import Child

UP_SECONDS = 120.0


def startup(bench: Bench) -> dict[str, Any]:
    """Seconds from the start of the command; the browser's part is played by a viewer that keeps asking."""
    bench.say("startup: streamer up")
    port, dashboard_port = _free_ports(2)
    options = ["up", "--no-browser", "--port", str(port), "--dashboard-port", str(dashboard_port)]
    options += ["--data-dir", str(bench.data_folder())]
    options += ["--config", str(bench.config)] if bench.config is not None else []
    began = time.monotonic()
    with ExitStack() as stack:
        command = stack.enter_context(Child("up", "streamer", options))
        viewer = stack.enter_context(Viewer(f"http://127.0.0.1:{port}", bench.folder, 1, annotation=True))

        def check() -> None:
            command.check()
            viewer.child.check()

        annotated_at = wait_for(viewer.annotated_at, UP_SECONDS, "an annotated picture", check)
        page_at = wait_for(lambda: command.line_with("playing on ") and time.monotonic(), UP_SECONDS, "the page", check)
        stream_at = float(viewer.child.line_with("stream ") or "nan")
        sight = viewer.sight()
    return {
        "stream_seconds": stream_at - began,
        "first_picture_seconds": sight.seen_at[0] - began,
        "first_annotated_picture_seconds": annotated_at - began,
        "dashboard_seconds": page_at - began,
    }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
