"""Memory that a worker draws batches into, that the trainer's process reads, and that then is drawn into again.

New memory costs about as much as decoding the video that is to lie in it: the kernel clears and maps it page by page.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections.abc import Collection
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.sample import Batch


class Buffer:
    """Memory of `size` bytes that may be sent to another process; with a byte behind that says whether it is lent."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._file = os.memfd_create("batch")
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, size + 1)
        self._memory = mmap.mmap(self._file, size + 1)

    @property
    def lent(self) -> bool:
        """Whether a batch lies in it that somebody may still read."""
        return bool(self._memory[self.size])

    @lent.setter
    def lent(self, lent: bool) -> None:
        self._memory[self.size] = lent

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor at its start, of undefined contents."""
        return torch.frombuffer(self._memory, dtype=dtype, count=math.prod(shape)).view(shape)

    def duplicate(self) -> tuple[int, Any]:
        """What `_received` makes a tensor of."""
        return self.size, DupFd(self._file)


class BufferPool:
    """The buffers of one worker: as many as were lent at a time, each as large as it ever had to be."""

    def __init__(self) -> None:
        self._buffers: list[Buffer] = []

    def unused(self, size: int, *, but: Collection[Buffer]) -> Buffer:
        """One of at least `size` bytes that is not lent, and none of `but`."""
        free = sorted((each for each in self._buffers if not each.lent and each not in but), key=lambda each: each.size)
        for buffer in free:
            if buffer.size >= size:
                return buffer
        for too_small in free[-1:]:
            self._buffers.remove(too_small)
        self._buffers.append(Buffer(size))
        return self._buffers[-1]


class SharedBatch(dict[str, Any]):
    """A batch some of whose tensors lie in buffers, by name, which are lent from now on.

    In the process that it is sent to it is a plain dict. Each buffer is given back when its tensors are dropped there.
    """

    def __init__(self, batch: Batch, buffers: dict[str, Buffer]) -> None:
        super().__init__(batch)
        self.buffers = buffers
        for buffer in buffers.values():
            buffer.lent = True

    def __reduce__(self) -> tuple[Any, ...]:
        lent = {
            name: (*buffer.duplicate(), tuple(self[name].shape), self[name].dtype)
            for name, buffer in self.buffers.items()
        }
        return _received, ({name: lent.get(name, value) for name, value in self.items()}, list(lent))


def _received(batch: dict[str, Any], lent: list[str]) -> dict[str, Any]:
    return batch | {name: _mapped(*batch[name]) for name in lent}


def _mapped(size: int, duplicate: Any, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    file = duplicate.detach()
    memory = mmap.mmap(file, size + 1)
    os.close(file)
    array = np.frombuffer(memory, np.uint8, math.prod(shape) * dtype.itemsize)
    weakref.finalize(array, memory.__setitem__, size, 0).atexit = False  # the tensors hold the array
    return torch.from_numpy(array).view(dtype).view(shape)
