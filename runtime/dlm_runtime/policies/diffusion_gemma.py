"""Canvas after canvas of random tokens that settle, as DiffusionGemma publishes it (`DiffusionGemmaGenerationMixin.generate`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlm_runtime.policies.entropy_bound import EntropyBound, ReplayedNoise, random_tokens
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import NEXT_TOKEN_STEP, Decoding, Passes, Prefill, Rule, Sees, Until


@dataclass(frozen=True, slots=True)
class CanvasDiffusion:
    """Encodes the prompt, then settles canvases of `canvas_length` tokens, each of which is encoded before the next.

    A pass divides its logits by a temperature that falls evenly from `t_max` to `t_min` (None: 1 throughout), measures entropy on them and
    feeds them to the next pass. A line's own temperature comes on top: 1 draws as published, 0 takes the likeliest token. `replayed`
    are random canvases to take instead of drawing them, one list per canvas: the canvas to begin with, then one for every pass;
    what comes behind the last list is drawn. A line is cut at its limit; the canvas goes on behind it.
    """

    canvas_length: int
    vocab_size: int
    entropy_bound: float = 0.1
    max_denoising_steps: int = 48
    t_min: float | None = 0.4
    t_max: float | None = 0.8
    stability_threshold: int | None = 1
    confidence_threshold: float | None = 0.005
    replayed: tuple[tuple[tuple[int, ...], ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.entropy_bound > 0:
            raise ValueError(f"{self.entropy_bound=} must be above 0")
        if self.max_denoising_steps < 1:
            raise ValueError(f"{self.max_denoising_steps=} must be at least 1")
        if self.t_min is not None and self.t_max is not None and not 0 <= self.t_min < self.t_max:
            raise ValueError(f"{self.t_min=} must be at least 0 and below {self.t_max=}")

    def decode(self, line: Line) -> Decoding:
        line.canvas = np.array(line.prompt_ids, np.int64)
        yield Prefill(line.prompt_length)
        sampler = EntropyBound(
            self.entropy_bound, self.stability_threshold, self.confidence_threshold, self.max_denoising_steps, self.vocab_size
        )
        number = 0
        while True:
            start = len(line.canvas)
            span = (start, start + self.canvas_length)
            line.canvas = np.concatenate([line.canvas, self._noise(line, start, number)])
            chosen = ReplayedNoise(sampler, self.replayed[number][1:]) if number < len(self.replayed) else sampler
            rule = Rule((0,), sampler=chosen, scales=self.scales())
            yield Passes(span, span, Sees.WHOLE, rule, Until.LIMIT, self.max_denoising_steps, self_conditions=True)
            if line.extend(line.canvas[start:].tolist()):
                return
            yield Passes(span, (span[1] - 1, span[1]), Sees.CAUSAL, keep=(span,), encode=True)
            number += 1

    def scales(self) -> tuple[float, ...]:
        """What logits are multiplied by, pass by pass."""
        if self.t_min is None or self.t_max is None:
            return (1.0,)
        steps = self.max_denoising_steps
        shares = [np.float32(steps - number) / np.float32(steps) for number in range(steps)]
        return tuple(float(1 / (np.float32(self.t_min) + np.float32(self.t_max - self.t_min) * share)) for share in shares)

    def _noise(self, line: Line, start: int, number: int) -> np.ndarray:
        if number < len(self.replayed):
            return np.array(self.replayed[number][0], np.int64)
        positions = line.first_position + np.arange(start, start + self.canvas_length, dtype=np.int64)[None]
        seed, counter = np.array([line.sampling.seed], np.int64), np.array([NEXT_TOKEN_STEP], np.int64)
        return random_tokens(seed, counter, positions, self.vocab_size)[0]
