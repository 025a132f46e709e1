import multiprocessing.shared_memory

import numpy as np
import pytest

from streamer.vision.ring import SLOTS, FrameRing, SharedBytes


def test_pictures_and_labels_cross_by_name_and_slots_do_not_touch():
    rng = np.random.default_rng(2)
    ring = FrameRing.create(64, 36)
    far = FrameRing.attach(ring.name, ring.capacity)
    try:
        pictures = [rng.integers(0, 256, (54, 64), np.uint8) for _ in range(SLOTS)]
        slots = [ring.write_frame(picture) for picture in pictures]
        assert sorted(slots) == list(range(SLOTS))
        labels = rng.integers(0, 256, (36, 64), np.uint8)
        far.write_labels(slots[0], labels)
        for slot, picture in zip(slots, pictures, strict=True):
            assert np.array_equal(far.frame(slot, 64, 36), picture)
        assert np.array_equal(ring.read_labels(slots[0], 64, 36), labels)
    finally:
        far.close()
        ring.close()


def test_smaller_pictures_fit_larger_do_not():
    ring = FrameRing.create(64, 36)
    try:
        assert ring.fits(36, 64)
        assert ring.fits(32, 16)
        assert not ring.fits(64, 38)
    finally:
        ring.close()


def test_closing_removes_the_block_and_may_be_repeated():
    ring = FrameRing.create(16, 16)
    name = ring.name
    ring.close()
    ring.close()
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
