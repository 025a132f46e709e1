import multiprocessing.shared_memory

import numpy as np
import pytest

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
