import errno
import math
import multiprocessing.shared_memory
import shutil
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import VisionError
from streamer.vision.shared import SharedBytes, SharedFrame


def test_pictures_and_labels_cross_by_name_and_do_not_touch():
    rng = np.random.default_rng(2)
    shared = SharedFrame.create(64, 36)
    far = SharedFrame.attach(shared.name, shared.capacity)
    try:
        picture = rng.integers(0, 256, (54, 64), np.uint8)
        labels = rng.integers(0, 256, (36, 64), np.uint8)
        shared.write_frame(picture)
        far.write_labels(labels)
        assert np.array_equal(far.frame(64, 36), picture)
        assert np.array_equal(shared.read_labels(64, 36), labels)
    finally:
        far.close()
        shared.close()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory has no file system of its own here")
def test_what_the_system_has_no_room_for_is_refused_not_killed_for():
    """Writing to shared memory that is not there ends a process by SIGBUS. Containers have 64 MB by default."""
    much = shutil.disk_usage("/dev/shm").total + 2**20
    side = math.isqrt(much) // 2 * 2
    with pytest.raises(VisionError, match=rf"no room for pictures of {side}x{side} .*/dev/shm.*--shm-size"):
        SharedFrame.create(side, side)
    assert not [path for path in Path("/dev/shm").iterdir() if path.stat().st_size > much]


def test_shared_memory_that_the_system_does_not_give_is_a_clear_error(monkeypatch):
    def refuse(*_args, **_options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(multiprocessing.shared_memory, "SharedMemory", refuse)
    with pytest.raises(VisionError, match=r"no shared memory for pictures of 64x36: Too many open files"):
        SharedFrame.create(64, 36)
    with pytest.raises(VisionError, match=r"no shared memory for a photo: Too many open files"):
        SharedBytes.create(b"photo")


def test_smaller_pictures_fit_larger_do_not():
    shared = SharedFrame.create(64, 36)
    try:
        assert shared.fits(36, 64)
        assert shared.fits(32, 16)
        assert not shared.fits(64, 38)
    finally:
        shared.close()


def test_closing_removes_the_block_and_may_be_repeated():
    shared = SharedFrame.create(16, 16)
    name = shared.name
    shared.close()
    shared.close()
    with pytest.raises(FileNotFoundError):
        multiprocessing.shared_memory.SharedMemory(name=name)


@pytest.mark.parametrize("data", [b"", b"x" * 3_000_000])
def test_bytes_cross_by_name(data):
    block = SharedBytes.create(data)
    far = SharedBytes.attach(block.name)
    try:
        assert far.read(len(data)) == data
    finally:
        far.close()
        block.close()
        block.close()
