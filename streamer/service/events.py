"""Server-sent events: one `data:` line a frame, comments that keep the connection open, an end with the service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from fastapi import FastAPI

KEEP_ALIVE_SECONDS = 15.0
"""Silence after which a comment goes out; proxies close quiet connections after 30-60 s."""


def install(app: FastAPI) -> None:
    """Give `app` the event that ends every event stream: a server that stops waits for open responses."""
    app.state.closing = asyncio.Event()


def closing(app: FastAPI) -> asyncio.Event:
    """Set when the service stops."""
    return cast(asyncio.Event, app.state.closing)


async def lines(
    frames: AsyncIterator[bytes], stop: asyncio.Event, keep_alive_seconds: float = KEEP_ALIVE_SECONDS
) -> AsyncIterator[bytes]:
    """`frames` (JSON without line ends) as event-stream text, until they end or `stop` is set.

    Nothing is queued here: while the client does not read, no further frame is taken, and `frames` drops its oldest.
    """
    stopped = asyncio.ensure_future(stop.wait())
    following: asyncio.Future[bytes] | None = None
    try:
        # The client sees the connection as open before the first frame.
        yield b": open\n\n"
        while not stop.is_set():
            following = following or asyncio.ensure_future(_next(frames))
            both: set[asyncio.Future[Any]] = {following, stopped}
            done, _ = await asyncio.wait(both, timeout=keep_alive_seconds, return_when=asyncio.FIRST_COMPLETED)
            if following in done:
                try:
                    frame = following.result()
                except _Finished:
                    return
                following = None
                yield b"data: " + frame + b"\n\n"
            elif not done:
                yield b": keep-alive\n\n"
    finally:
        await _end(stopped, following)
        await cast(Any, frames).aclose()


async def _next(frames: AsyncIterator[bytes]) -> bytes:
    try:
        return await anext(frames)
    except StopAsyncIteration:
        raise _Finished from None


async def _end(*tasks: asyncio.Future[Any] | None) -> None:
    for task in tasks:
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, _Finished):
                await task


class _Finished(Exception):
    """The frames ended. (`StopAsyncIteration` itself may not be raised in a coroutine that a task runs.)"""
