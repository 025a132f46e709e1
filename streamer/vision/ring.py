"""Frames to the vision worker and label maps back, through shared memory."""

from __future__ import annotations

from multiprocessing import shared_memory

import numpy as np

from streamer.frames import i420_bytes

SLOTS = 1
"""A session has one frame with the worker at most, and writes the next one when that is answered. A second slot would
cost 2.3 MB a stream at 720p, and memory that is not in the caches."""


class FrameRing:
    """`SLOTS` slots in one block of shared memory, each with room for an I420 picture and its label map.

    The service creates the ring (`create`) and unlinks it on `close`; the worker attaches by name. Not locked: the
    messages between the two say who owns a slot (a slot belongs to the worker from `Step` until its answer). Bound:
    `SLOTS` pictures. A picture that does not fit needs a new ring (`fits`).
    """

    def __init__(self, block: shared_memory.SharedMemory, capacity: int, owner: bool) -> None:
        self._block: shared_memory.SharedMemory | None = block
        self._capacity = capacity
        self._owner = owner
        self._next = 0

    @classmethod
    def create(cls, width: int, height: int) -> FrameRing:
        """A new ring for pictures of up to `width` x `height` pixels."""
        capacity = width * height
        slot_bytes = i420_bytes(width, height) + capacity
        return cls(shared_memory.SharedMemory(create=True, size=SLOTS * slot_bytes), capacity, owner=True)

    @classmethod
    def attach(cls, name: str, capacity: int) -> FrameRing:
        """The ring that another process created. Raises `FileNotFoundError` where it is gone already."""
        return cls(shared_memory.SharedMemory(name=name), capacity, owner=False)

    @property
    def name(self) -> str:
        """Name of the block, for `attach`."""
        return self._open_block().name

    @property
    def capacity(self) -> int:
        """Largest width * height that a slot holds."""
        return self._capacity

    def fits(self, width: int, height: int) -> bool:
        """A picture of this size goes into a slot."""
        return width * height <= self._capacity

    def write_frame(self, i420: np.ndarray) -> int:
        """Copy an (H * 3 // 2, W) uint8 picture into the next slot; its number."""
        slot, self._next = self._next, (self._next + 1) % SLOTS
        self._view(slot, i420.shape)[...] = i420
        return slot

    def frame(self, slot: int, width: int, height: int) -> np.ndarray:
        """View (no copy) of the picture in a slot; valid until the slot's answer is sent."""
        return self._view(slot, (height * 3 // 2, width))

    def write_labels(self, slot: int, labels: np.ndarray) -> None:
        """Copy an (H, W) uint8 label map beside the slot's picture."""
        self._labels(slot, labels.shape)[...] = labels

    def read_labels(self, slot: int, width: int, height: int) -> np.ndarray:
        """(H, W) uint8 copy of the slot's label map."""
        return self._labels(slot, (height, width)).copy()

    def close(self) -> None:
        """Detach; the creator also removes the block. Twice is fine."""
        if self._block is None:
            return
        block, self._block = self._block, None
        block.close()
        if self._owner:
            block.unlink()

    def _open_block(self) -> shared_memory.SharedMemory:
        if self._block is None:
            raise ValueError("the frame ring is closed")
        return self._block

    def _view(self, slot: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.ndarray(shape, np.uint8, self._open_block().buf, offset=slot * self._slot_bytes())

    def _labels(self, slot: int, shape: tuple[int, ...]) -> np.ndarray:
        offset = slot * self._slot_bytes() + self._capacity * 3 // 2
        return np.ndarray(shape, np.uint8, self._open_block().buf, offset=offset)

    def _slot_bytes(self) -> int:
        return self._capacity * 3 // 2 + self._capacity


class SharedBytes:
    """Bytes in shared memory, for what is too large for a pipe: an uploaded photo. The creator removes them."""

    def __init__(self, block: shared_memory.SharedMemory, owner: bool) -> None:
        self._block: shared_memory.SharedMemory | None = block
        self._owner = owner
        self.name = block.name

    @classmethod
    def create(cls, data: bytes) -> SharedBytes:
        """A block that holds `data`."""
        block = shared_memory.SharedMemory(create=True, size=max(1, len(data)))
        np.ndarray((len(data),), np.uint8, block.buf)[...] = np.frombuffer(data, np.uint8)
        return cls(block, owner=True)

    @classmethod
    def attach(cls, name: str) -> SharedBytes:
        """The block that another process created. Raises `FileNotFoundError` where it is gone already."""
        return cls(shared_memory.SharedMemory(name=name), owner=False)

    def read(self, size: int) -> bytes:
        """Copy of the first `size` bytes."""
        if self._block is None:
            raise ValueError("the shared bytes are closed")
        return np.ndarray((size,), np.uint8, self._block.buf).tobytes()

    def close(self) -> None:
        """Detach; the creator also removes the block. Twice is fine."""
        if self._block is None:
            return
        block, self._block = self._block, None
        block.close()
        if self._owner:
            block.unlink()
