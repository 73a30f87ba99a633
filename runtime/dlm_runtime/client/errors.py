"""What a call can end with instead of a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import grpc


class NpcError(Exception):
    """The server answered with an error, or could not be reached.

    `code` is the gRPC status code, `field` the path of the field at fault or "", `retry_after_ms` how long the server asks to wait or None.
    """

    def __init__(self, code: grpc.StatusCode, message: str, field: str = "", retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code, self.message, self.field, self.retry_after_ms = code, message, field, retry_after_ms


@contextmanager
def errors_translated() -> Iterator[None]:
    """Raises `NpcError` in place of gRPC's own errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


def from_rpc_error(error: grpc.RpcError) -> NpcError:
    """The same error in this client's terms; works for plain and asyncio calls."""
    if not isinstance(error, grpc.aio.AioRpcError | grpc.Call):
        return NpcError(grpc.StatusCode.UNKNOWN, str(error))
    entries = {key: value for key, value in _pairs(error.trailing_metadata()) if isinstance(value, str)}
    retry = entries.get("retry-after-ms", "")
    return NpcError(error.code(), error.details() or "", entries.get("error-field", ""), int(retry) if retry.isdecimal() else None)


def _pairs(metadata: Iterable[tuple[str, str | bytes]] | None) -> list[tuple[str, str | bytes]]:
    return [(key, value) for key, value in metadata or ()]
