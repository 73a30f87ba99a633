"""The one table from errors to gRPC status codes, and the words that go with them."""

from __future__ import annotations

import logging
from typing import NoReturn

import grpc

from dlm_runtime.errors import (
    BundleError,
    DeadlineError,
    DlmError,
    EngineError,
    PromptTooLong,
    QueueFull,
    RequestError,
    SchedulerClosed,
    UnknownCharacter,
)
from dlm_runtime.service.gate import NotServing

RETRY_AFTER_KEY = "retry-after-ms"
FIELD_KEY = "error-field"
_MAX_VALUE_CHARS = 80
_log = logging.getLogger(__name__)

# The class nearest to the error decides.
STATUS_CODES: dict[type[Exception], grpc.StatusCode] = {
    RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    PromptTooLong: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownCharacter: grpc.StatusCode.NOT_FOUND,
    QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NotServing: grpc.StatusCode.UNAVAILABLE,
    SchedulerClosed: grpc.StatusCode.UNAVAILABLE,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    BundleError: grpc.StatusCode.FAILED_PRECONDITION,
    EngineError: grpc.StatusCode.INTERNAL,
    DlmError: grpc.StatusCode.INTERNAL,
    Exception: grpc.StatusCode.INTERNAL,
}


def status_code(error: Exception) -> grpc.StatusCode:
    """The status code that tells a client of `error`."""
    return next(STATUS_CODES[kind] for kind in type(error).__mro__ if kind in STATUS_CODES)


def message(error: Exception) -> str:
    """What a client reads. Requests at fault read `field: value: remedy`; faults that nobody foresaw stay in the server's log."""
    if isinstance(error, RequestError):
        value = repr(error.value)
        shown = value if len(value) <= _MAX_VALUE_CHARS else f"{value[:_MAX_VALUE_CHARS]}..."
        return f"{error.field}: {shown}: {error.remedy}"
    if isinstance(error, DlmError):
        return str(error)
    return f"the server failed on this call ({type(error).__name__}); its log has the details"


def trailing_metadata(error: Exception) -> tuple[tuple[str, str], ...]:
    """What a program reads: how long to wait, which field is at fault."""
    entries: list[tuple[str, str]] = []
    if isinstance(error, QueueFull | NotServing) and error.retry_after_ms is not None:
        entries.append((RETRY_AFTER_KEY, str(error.retry_after_ms)))
    if isinstance(error, RequestError):
        entries.append((FIELD_KEY, error.field))
    return tuple(entries)


async def abort(context: grpc.aio.ServicerContext, error: Exception) -> NoReturn:
    """End a call with the status of `error`."""
    if not isinstance(error, DlmError):
        _log.error("call failed", exc_info=error)
    elif status_code(error) is grpc.StatusCode.INTERNAL:
        _log.error("call failed: %s", error)
    await context.abort(status_code(error), message(error), trailing_metadata(error))
    raise AssertionError("abort returns never")  # for type checkers
