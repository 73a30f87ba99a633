"""Many lines at once on one engine: continuous batching at step granularity."""

from dlm_runtime.scheduler.reference import write_line
from dlm_runtime.scheduler.scheduler import Scheduler
from dlm_runtime.scheduler.types import (
    Accepted,
    Draft,
    Failed,
    Finished,
    FinishReason,
    LineEvent,
    LineRequest,
    LineResult,
    Listener,
    SchedulerStats,
    Ticket,
)

__all__ = [
    "Accepted",
    "Draft",
    "Failed",
    "FinishReason",
    "Finished",
    "LineEvent",
    "LineRequest",
    "LineResult",
    "Listener",
    "Scheduler",
    "SchedulerStats",
    "Ticket",
    "write_line",
]
