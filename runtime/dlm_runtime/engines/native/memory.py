"""Blocks of memory that grow in buckets, so that they move rarely."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dlm_runtime.engines.native.device import Device

_SMALLEST_BYTES = 4096
_LARGE_BYTES = 64 * 2**20  # up to here sizes double, beyond it they grow by so much at a time


def bucket_bytes(size: int) -> int:
    """The size that is allocated for `size` bytes."""
    if size <= _LARGE_BYTES:
        return max(_SMALLEST_BYTES, 1 << max(0, size - 1).bit_length())
    return -(-size // _LARGE_BYTES) * _LARGE_BYTES


class Memory:
    """All blocks of an engine. `moves` counts how often one of them went to another address: whoever remembers addresses looks at it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.moves = 0
        self._blocks: list[Block] = []

    def on_device(self) -> Block:
        """An empty block on the device."""
        return self._block(self.device.allocate, self.device.free)

    def on_host(self) -> HostBlock:
        """An empty block of host memory."""
        block = HostBlock(self, self.device.allocate_host, self.device.free_host)
        self._blocks.append(block)
        return block

    def close(self) -> None:
        """Frees every block."""
        for block in self._blocks:
            block.release()

    def _block(self, allocate: Callable[[int], int], free: Callable[[int], None]) -> Block:
        block = Block(self, allocate, free)
        self._blocks.append(block)
        return block


class Block:
    """One piece of memory. What it holds is lost when it grows."""

    def __init__(self, memory: Memory, allocate: Callable[[int], int], free: Callable[[int], None]) -> None:
        self.address = 0
        self.size = 0
        self._memory = memory
        self._allocate = allocate
        self._free = free

    def reserve(self, size: int) -> int:
        """The address of at least `size` bytes, another one than before if there were fewer; never 0, as an empty tensor has one too."""
        if size > self.size or not self.address:
            self.release()
            wanted = bucket_bytes(size)
            self.address = self._allocate(wanted)
            self.size = wanted
            self._memory.moves += 1
        return self.address

    def release(self) -> None:
        """Gives the memory back. The block may be used again."""
        if self.address:
            address, self.address, self.size = self.address, 0, 0
            self._free(address)


class HostBlock(Block):
    """A piece of host memory that NumPy can look into."""

    def array(self, offset: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """A view, valid until the block grows."""
        element = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * element.itemsize
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * max(size, 1)).from_address(self.address + offset))
        return raw[:size].view(element).reshape(shape)
