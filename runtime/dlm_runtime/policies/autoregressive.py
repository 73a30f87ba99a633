"""One token after the other."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_runtime.policies.forward import Decoding, Forward, Prefill
from dlm_runtime.policies.line import Line


@dataclass(frozen=True, slots=True)
class Autoregressive:
    """Draws the next token and runs it, until the line ends; the last token is not run."""

    def decode(self, line: Line) -> Decoding:
        reply = yield Prefill(line.prompt_ids, line.temperature)
        while not line.extend(reply.sampled[-1:]):
            reply = yield Forward(reply.sampled[-1:], True, 0, 1, temperature=line.temperature, keeps=True)
            reply.keep(1)
