"""The doctor's look at the ports: free, taken, or in use by this very program, which is no trouble."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import time
from typing import TYPE_CHECKING

import psutil

from streamer.cli_doctor import Check
from streamer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from streamer.service.settings import Settings

ASK_SECONDS = 2.0
"""For the whole answer of whoever holds a port."""
ANSWER_BYTES = 64 * 1024
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def port_checks(settings: Settings) -> list[Check]:
    """The service's port and the dashboard's. Asks this machine's own addresses alone, for a few seconds at most."""
    host, port = settings.service.host, settings.service.port
    return [
        _port("port of the service", host, port, "--port", settings.data_folder),
        _port("port of the dashboard", "127.0.0.1", settings.service.dashboard_port, "--dashboard-port", None),
    ]


def _port(name: str, host: str, port: int, option: str, service_of: Path | None) -> Check:
    """`service_of`: the data folder, where it is the service's port; None: the dashboard's."""
    from streamer.service.run import listen

    try:
        listen(host, port).close()
    except ConfigError as exc:
        taken = isinstance(exc.__cause__, OSError) and exc.__cause__.errno == errno.EADDRINUSE
        own = _own(name, host, port, option, service_of) if taken else None
        action = f"stop what uses it, or choose another with {option}"
        return own or Check(name, "fail", str(exc).partition(";")[0], action)
    return Check(name, "ok", "any free one" if port == 0 else f"{port} on {host} is free")


def _own(name: str, host: str, port: int, option: str, service_of: Path | None) -> Check | None:
    """What to say where a service or a dashboard of this program listens; None: somebody else does."""
    second = f"to run a second one beside it, choose another with {option}"
    if service_of is None:
        if _answer(host, port, "/_stcore/health") != b"ok":
            return None
        found = f"{port} on {host} is in use by a dashboard (Streamlit); that is fine if it is this program's"
        return Check(name, "warn", found, second)
    version = _version(_answer(host, port, "/healthz"))
    if version is None:
        return None
    found = f"{port} on {host} is in use by a running streamer ({version})"
    if _listens(service_of, port):
        return Check(name, "ok", f"{found}, the service of this data folder")
    return Check(name, "warn", f"{found} of another data folder; that is fine if you meant that one", second)


def _version(answer: bytes | None) -> str | None:
    """Of the service that answered so; None: it is none of this program's."""
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(answer or b"")
        if isinstance(said, dict) and said.get("status") == "ok" and "job_bytes" in (said.get("limits") or ()):
            return ascii(said.get("version"))[1:-1][:40]
    return None


def _listens(data_folder: Path, port: int) -> bool:
    """Whether the service of that data folder is who listens on the port."""
    from streamer.service.sole import NAME

    with contextlib.suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int((data_folder / NAME).read_text(encoding="ascii")))
        return any(
            at.status == psutil.CONN_LISTEN and at.laddr.port == port for at in process.net_connections(kind="tcp")
        )
    return False


def _answer(host: str, port: int, path: str) -> bytes | None:
    """The body of a good answer to a GET; None: there was none in time. By hand: no client bounds the whole of it."""
    address = _ANYWHERE.get(host, host)
    deadline = time.monotonic() + ASK_SECONDS
    said = b""
    try:
        with socket.create_connection((address, port), timeout=ASK_SECONDS) as asking:
            shown = f"[{address}]" if ":" in address else address
            asking.sendall(f"GET {path} HTTP/1.0\r\nHost: {shown}:{port}\r\n\r\n".encode())
            while len(said) < ANSWER_BYTES and (left := deadline - time.monotonic()) > 0:
                asking.settimeout(left)
                if not (part := asking.recv(ANSWER_BYTES)):
                    break
                said += part
    except OSError:
        return None
    head, _, body = said.partition(b"\r\n\r\n")
    return body.strip() if head.startswith(b"HTTP/1.") and b" 200 " in head.partition(b"\r\n")[0] else None
