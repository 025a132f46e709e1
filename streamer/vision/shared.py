"""Frames to the vision worker and label maps back, through shared memory."""

from __future__ import annotations

from multiprocessing import shared_memory

import numpy as np

from streamer.frames import i420_bytes


class SharedFrame:
    """One block of shared memory with room for an I420 picture and its label map.

    The service creates it (`create`) and unlinks it on `close`; the worker attaches by name. Not locked: a stream has
    one frame with the worker at most, and the block is the worker's from `Step` until its answer. A picture that does
    not fit needs a new block (`fits`).
    """

    def __init__(self, block: shared_memory.SharedMemory, capacity: int, owner: bool) -> None:
        self._block: shared_memory.SharedMemory | None = block
        self._capacity = capacity
        self._owner = owner

    @classmethod
    def create(cls, width: int, height: int) -> SharedFrame:
        """A new block for pictures of up to `width` x `height` pixels."""
        capacity = width * height
        size = i420_bytes(width, height) + capacity
        return cls(shared_memory.SharedMemory(create=True, size=size), capacity, owner=True)

    @classmethod
    def attach(cls, name: str, capacity: int) -> SharedFrame:
        """The block that another process created. Raises `FileNotFoundError` where it is gone already."""
        return cls(shared_memory.SharedMemory(name=name), capacity, owner=False)

    @property
    def name(self) -> str:
        """Name of the block, for `attach`."""
        return self._open_block().name

    @property
    def capacity(self) -> int:
        """Largest width * height that fits."""
        return self._capacity

    def fits(self, width: int, height: int) -> bool:
        """There is room for a picture of this size."""
        return width * height <= self._capacity

    def write_frame(self, i420: np.ndarray) -> None:
        """Copy an (H * 3 // 2, W) uint8 picture into the block."""
        self._view(i420.shape)[...] = i420

    def frame(self, width: int, height: int) -> np.ndarray:
        """View (no copy) of the picture; valid until the answer is sent."""
        return self._view((height * 3 // 2, width))

    def write_labels(self, labels: np.ndarray) -> None:
        """Copy an (H, W) uint8 label map beside the picture."""
        self._labels(labels.shape)[...] = labels

    def read_labels(self, width: int, height: int) -> np.ndarray:
        """(H, W) uint8 copy of the label map."""
        return self._labels((height, width)).copy()

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
            raise ValueError("the shared frame is closed")
        return self._block

    def _view(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.ndarray(shape, np.uint8, self._open_block().buf)

    def _labels(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.ndarray(shape, np.uint8, self._open_block().buf, offset=self._capacity * 3 // 2)


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
