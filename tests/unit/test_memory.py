"""Freed memory goes back to the system."""

from __future__ import annotations

import psutil
import pytest

from streamer.service.memory import trimmer

CHUNK = 100_000
"""Bytes: too few for a mapping of its own, so the C library cuts it from its heap."""


def test_memory_freed_in_the_middle_of_the_heap_goes_back() -> None:
    trim = trimmer()
    if trim is None:
        pytest.skip("this C library has no malloc_trim")
    process = psutil.Process()
    chunks = [bytes([n % 256]) * CHUNK for n in range(1000)]
    pins = [chunk for n, chunk in enumerate(chunks) if n % 100 == 99]
    del chunks
    before = process.memory_info().rss
    trim(0)
    assert before - process.memory_info().rss > 900 * CHUNK * 0.8
    assert all(len(pin) == CHUNK for pin in pins)
