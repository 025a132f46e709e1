"""Frames to the vision worker and label maps back, through shared memory."""

from __future__ import annotations

import errno
import os
import shutil
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np

from streamer.errors import NoSharedMemory
from streamer.frames import i420_bytes

_FILES = Path("/dev/shm")
"""Where Linux keeps shared memory. https://man7.org/linux/man-pages/man7/shm_overview.7.html"""
MAKE_LARGER = "make it larger (docker run --shm-size=512m)"


def _create(size: int, what: str) -> shared_memory.SharedMemory:
    """A block whose memory is really there. Raises `NoSharedMemory`: `what` does not fit."""
    try:
        block = shared_memory.SharedMemory(create=True, size=size)
        try:
            _reserve(block)
        except OSError:
            block.close()
            block.unlink()
            raise
    except OSError as exc:
        if exc.errno != errno.ENOSPC:
            raise NoSharedMemory(f"no shared memory for {what}: {exc.strerror or exc}; look at {_FILES}") from exc
        raise NoSharedMemory(
            f"no room for {what} in shared memory: it takes {size / 1e6:.1f} MB, and {_FILES} has "
            f"{(free_bytes() or 0) / 1e6:.1f} MB left; {MAKE_LARGER}"
        ) from exc
    return block


def free_bytes() -> int | None:
    """Shared memory that is left; None where the system does not say."""
    return shutil.disk_usage(_FILES).free if _FILES.is_dir() else None


def _reserve(block: shared_memory.SharedMemory) -> None:
    """Where there is no room (a container has 64 MB) this fails, and not, by SIGBUS, who writes to it later."""
    path = _FILES / block.name
    if not path.exists():
        return  # a system that keeps it elsewhere
    file = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(file, 0, block.size)
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise  # else it cannot be reserved here, which says nothing of the room
    finally:
        os.close(file)


class _Shared:
    """A block of shared memory. Who created it removes it as well."""

    def __init__(self, block: shared_memory.SharedMemory, owner: bool) -> None:
        self._open: shared_memory.SharedMemory | None = block
        self._owner = owner
        self.name = block.name
        """For `attach`."""

    @property
    def _block(self) -> shared_memory.SharedMemory:
        if self._open is None:
            raise ValueError("the shared memory is closed")
        return self._open

    def close(self) -> None:
        """Detach; the creator also removes the block. Twice is fine."""
        if self._open is None:
            return
        block, self._open = self._open, None
        block.close()
        if self._owner:
            block.unlink()


class SharedFrame(_Shared):
    """One block of shared memory with room for an I420 picture and its label map.

    The service creates it (`create`) and unlinks it on `close`; the worker attaches by name. Not locked: a stream has
    one frame with the worker at most, and the block is the worker's from `Step` until its answer. A picture that does
    not fit needs a new block (`fits`).
    """

    def __init__(self, block: shared_memory.SharedMemory, capacity: int, owner: bool) -> None:
        super().__init__(block, owner)
        self.capacity = capacity
        """Largest width * height that fits."""

    @classmethod
    def create(cls, width: int, height: int) -> SharedFrame:
        """A new block for pictures of up to `width` x `height` pixels. Raises `NoSharedMemory`."""
        return cls(_create(cls.size(width, height), f"pictures of {width}x{height}"), width * height, owner=True)

    @staticmethod
    def size(width: int, height: int) -> int:
        """Bytes of a block for pictures of up to `width` x `height` pixels."""
        return i420_bytes(width, height) + width * height

    @classmethod
    def attach(cls, name: str, capacity: int) -> SharedFrame:
        """The block that another process created. Raises `FileNotFoundError` where it is gone already."""
        return cls(shared_memory.SharedMemory(name=name), capacity, owner=False)

    def fits(self, width: int, height: int) -> bool:
        """There is room for a picture of this size."""
        return width * height <= self.capacity

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

    def _view(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.ndarray(shape, np.uint8, self._block.buf)

    def _labels(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.ndarray(shape, np.uint8, self._block.buf, offset=self.capacity * 3 // 2)


class SharedBytes(_Shared):
    """Bytes in shared memory, for what is too large for a pipe: an uploaded photo. The creator removes them."""

    @classmethod
    def create(cls, data: bytes) -> SharedBytes:
        """A block that holds `data`. Raises `NoSharedMemory`."""
        block = _create(max(1, len(data)), "a photo")
        np.ndarray((len(data),), np.uint8, block.buf)[...] = np.frombuffer(data, np.uint8)
        return cls(block, owner=True)

    @classmethod
    def attach(cls, name: str) -> SharedBytes:
        """The block that another process created. Raises `FileNotFoundError` where it is gone already."""
        return cls(shared_memory.SharedMemory(name=name), owner=False)

    def read(self, size: int) -> bytes:
        """Copy of the first `size` bytes."""
        return np.ndarray((size,), np.uint8, self._block.buf).tobytes()
