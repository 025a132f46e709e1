"""Runs the service: the port first, then everything else; one signal ends it in order, a second one at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from streamer.errors import ConfigError, StreamerError
from streamer.service.settings import Settings, check_binding

if TYPE_CHECKING:
    from fastapi import FastAPI

CLOSE_SECONDS = 5
"""How long open HTTP responses may take to end when the service stops; event streams end at once."""

BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. `port` 0 takes a free one.

    Raises:
        ConfigError: the port is taken, or may not be used, or the host is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as exc:
        raise ConfigError(
            f"cannot listen on {host!r}: {exc.strerror}; use 127.0.0.1 or an address of this machine"
        ) from exc
    bound = socket.socket(family, kind, protocol)
    try:
        # Without it a restart within a minute would find its own old connections in the way.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as exc:
        bound.close()
        raise ConfigError(_why_not(exc, host, port)) from exc
    bound.setblocking(False)
    return bound


def address_of(bound: socket.socket, host: str) -> str:
    """http://host:port under which the socket is reached; a wildcard address is shown as it is."""
    port = bound.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(settings: Settings, on_listening: Callable[[str], None]) -> None:
    """Run the service until SIGINT or SIGTERM. `on_listening` gets the address once requests are answered.

    Raises:
        ConfigError: the port or the data folder cannot be used, or the binding needs a token.
        GalleryUnavailable: the gallery cannot be opened.
    """
    check_binding(settings)
    with contextlib.closing(listen(settings.service.host, settings.service.port)) as bound:
        # Imported late: a taken port is said at once, not after the media libraries are loaded.
        from streamer.service.app import create_app

        app = create_app(settings)
        # What imports made stays for ever: looking through it takes the collector 0.1 s, in which no packet is sent.
        gc.collect()
        gc.freeze()
        life = _Life(app)
        config = uvicorn.Config(
            life,
            log_config=None,
            log_level="critical",  # what matters is logged by this project, once and redacted
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=CLOSE_SECONDS,
            lifespan="on",
            ws="none",
        )
        server = _Server(config, app, lambda: on_listening(address_of(bound, settings.service.host)))
        life.on_error = server.stop
        with contextlib.suppress(SystemExit):  # how uvicorn says that the start failed
            server.run(sockets=[bound])
        if life.error is not None:
            raise life.error


class _Life:
    """Keeps the error that ended the application at its start or later: uvicorn only logs it and serves on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.error: BaseException | None = None
        self.on_error: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            self.error = _innermost(exc)
            self.on_error()
            raise


class _Server(uvicorn.Server):
    """uvicorn, but: it says when it listens, ends event streams first, and leaves the exit status to the caller."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.closing.set()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The base class raises the signal again afterwards, which would make a clean stop look like a crash.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """End as a signal would."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def _innermost(error: BaseException) -> BaseException:
    """The first error of this project's own in a group, else the first at all: task groups wrap what they raise."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    own = error.subgroup(StreamerError)
    return _innermost((own or error).exceptions[0])


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is taken by another program; stop that one, or choose another port (--port 0: any)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} on {host} may not be used by this user; choose one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; use 127.0.0.1 or one of its own addresses"
    return f"cannot listen on {host}:{port}: {error.strerror}"
