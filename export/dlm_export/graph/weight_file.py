"""External data of an ONNX model, written as the weights come, so that no more than one of them is ever in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.external_data_helper import set_external_data

ALIGNMENT_BYTES = 4096  # a page: lets a runtime map weights instead of reading them
CHUNK_BYTES = 1 << 26


class WeightFile:
    """A file beside model.onnx that tensors are appended to. Use it as a context manager; write errors are OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = path.open("wb")

    def append(self, tensor: TensorProto, parts: Iterable[NDArray[np.uint8]]) -> None:
        """Write the bytes of a tensor, part by part, and write into the tensor where they are."""
        self._stream.write(b"\0" * (-self._stream.tell() % ALIGNMENT_BYTES))
        offset = self._stream.tell()
        for part in parts:
            for start in range(0, part.nbytes, CHUNK_BYTES):
                self._stream.write(part[start : start + CHUNK_BYTES].data)
        tensor.raw_data = b""
        set_external_data(tensor, self._path.name, offset=offset, length=self._stream.tell() - offset)
        tensor.ClearField("raw_data")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()
