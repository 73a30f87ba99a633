"""Every error the runtime raises on purpose.

DlmError
├── BundleError          a bundle folder is missing something, or says something that is not true
├── EngineError          a model file cannot be loaded, or a step failed
├── RequestError         what the caller asked for cannot be done; names field, value and remedy
│   ├── PromptTooLong    prompt and line together do not fit the model's context
│   └── UnknownCharacter no such character is loaded
├── CharacterError       a character file cannot be used (dialogue/character.py)
├── QueueFull            too many lines wait; says after how many milliseconds to try again
├── SchedulerClosed      the scheduler no longer takes lines, or closed before this one was done
├── DeadlineError        the caller's time was up before the line was whole
├── NotServing           the server is warming up or going away (service/gate.py)
├── ListenError          the address cannot be listened on (service/server.py)
├── HostError            the demonstration's server did not start (demo/host.py)
└── ExportError          a checkpoint cannot be exported (dlm_export/errors.py, with a tree of its own)
"""

from __future__ import annotations

from pathlib import Path


class DlmError(Exception):
    """Base of all errors of this project. `str()` is a sentence that can be shown to the caller."""


class BundleError(DlmError):
    """A bundle cannot be used. `file` is where, `problem` what was found there, `remedy` how to mend it."""

    def __init__(self, file: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"{file}: {problem}. {remedy}")
        self.file = Path(file)
        self.problem = problem
        self.remedy = remedy


class EngineError(DlmError):
    """A model could not be loaded or a step failed. `problem` says what, `remedy` how to mend it."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}. {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class RequestError(DlmError):
    """A request cannot be served as it stands. `field` and `value` say what is wrong, `remedy` what would be right."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}={_short(value)}: {remedy}")
        self.field = field
        self.value = value
        self.remedy = remedy


class PromptTooLong(RequestError):
    """Prompt and line together exceed the model's context."""


class UnknownCharacter(RequestError):
    """No character of that id is loaded."""


class QueueFull(DlmError):
    """Too many lines are waiting; trying again after `retry_after_ms` has a fair chance."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(f"too many lines are waiting; try again in {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms


class SchedulerClosed(DlmError):
    """The scheduler is closed or closing, so the line was not taken or not finished."""


class DeadlineError(DlmError):
    """The caller's time was up before the line was whole."""


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
