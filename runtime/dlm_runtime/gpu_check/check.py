"""One check and its outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

State = Literal["passed", "failed", "skipped"]


class CheckFailed(Exception):
    """What was checked is not as it should be. The text says how."""


class Skipped(Exception):
    """It cannot be checked here. The text says why."""


@dataclass(frozen=True)
class Check:
    """`group` is the engine or kernel that was checked, `detail` one sentence."""

    group: str
    name: str
    state: State
    detail: str
    seconds: float = 0.0


@dataclass
class Checks:
    """All checks so far. `on_begin` is told what is about to be checked, `on_end` what came of it."""

    on_begin: Callable[[str, str], None] = lambda group, name: None
    on_end: Callable[[Check], None] = lambda check: None
    done: list[Check] = field(default_factory=list)

    def run(self, group: str, name: str, work: Callable[[], str]) -> bool:
        """Runs a check, which returns the sentence of its success. Whatever it raises is its outcome, never an end of the program."""
        self.on_begin(group, name)
        began = time.perf_counter()
        state: State = "failed"
        try:
            state, detail = "passed", work()
        except Skipped as reason:
            state, detail = "skipped", str(reason)
        except CheckFailed as failure:
            detail = str(failure)
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
        check = Check(group, name, state, " ".join(detail.split()), time.perf_counter() - began)
        self.done.append(check)
        self.on_end(check)
        return state == "passed"

    def skip(self, group: str, name: str, reason: str) -> None:
        """Notes what cannot be checked here."""

        def work() -> str:
            raise Skipped(reason)

        self.run(group, name, work)

    def count(self, state: State) -> int:
        """How many came out so."""
        return sum(check.state == state for check in self.done)
