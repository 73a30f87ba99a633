"""An engine without a model: a public seam for tests of everything above the engine.

Its keys hold the token ids that were run, so it really reads the context it is given: a scheduler that mixes up rows, lengths or positions
gets other text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np

from dlm_runtime.bundle import Manifest, Source, Target
from dlm_runtime.engines.base import Float32, Int64, StepBatch, StepResult
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.errors import EngineError

Script = Callable[[Sequence[int]], int]
"""Given all tokens so far, the next one. Must depend on nothing else."""


def fake_manifest(
    vocab_size: int = 97,
    block_length: int = 8,
    mask_token_id: int = 1,
    eos_token_ids: Sequence[int] = (2,),
    banned_token_ids: Sequence[int] = (),
    max_context: int = 4096,
    chat_template: str | None = None,
) -> Manifest:
    """A small manifest for engines without a model."""
    return Manifest(
        name="fake",
        family="fake",
        architecture="Fake",
        precision="fp32",
        opset=18,
        vocab_size=vocab_size,
        hidden_size=2,
        layers=1,
        heads=1,
        kv_heads=1,
        head_dim=2,
        max_context=max_context,
        block_length=block_length,
        mask_token_id=mask_token_id,
        eos_token_ids=tuple(eos_token_ids),
        pad_token_id=0,
        banned_token_ids=tuple(banned_token_ids),
        modes=("diffusion", "self_speculation", "ar"),
        default_mode="diffusion",
        chat_template=chat_template,
        source=Source(checkpoint="fake"),
        targets=(Target(engine="onnxruntime", file="model.onnx"),),
    )


class FakeEngine:
    """Speaks what `script` says; without one, tokens mixed from all tokens so far, and an end of line now and then.

    A token that is a block of its own, as in causal passes, says the script's next one. Denoising a block guesses its masks, but is wrong
    at every position that is a multiple of `wrong_every` (0: never), so self-speculation has something to reject. `before_step` runs at
    the start of every step and may raise or wait. `steps` counts the steps, `shapes` lists their (B, L, P, W).
    """

    def __init__(
        self,
        manifest: Manifest | None = None,
        script: Script | None = None,
        before_step: Callable[[StepBatch], None] | None = None,
        wrong_every: int = 5,
    ) -> None:
        self.manifest = manifest or fake_manifest()
        self.script = script or self._mixed
        self.before_step = before_step
        self.wrong_every = wrong_every
        self.steps = 0
        self.shapes: list[tuple[int, int, int, int]] = []
        self.closed = False

    def step(self, batch: StepBatch) -> StepResult:
        """One step. Raises whatever `before_step` raises, and EngineError after `close`."""
        if self.closed:
            raise EngineError("the engine is closed")
        if self.before_step is not None:
            self.before_step(batch)
        rows, length = batch.input_ids.shape
        self.steps += 1
        self.shapes.append((rows, length, batch.past.tokens, batch.window_length))
        canvas = np.zeros(batch.allow_rows.shape, np.int64)
        sampled = np.zeros_like(canvas)
        confidence = np.ones(canvas.shape, np.float32)
        committed = np.zeros(rows, np.int64)
        for row in range(rows):
            self._row(batch, row, canvas, sampled, confidence, committed)
        present = self._present(batch) if batch.want_present else None
        result = StepResult(canvas, sampled, committed, confidence, np.zeros_like(confidence), present=present)
        if batch.want_top:
            result.top_ids = sampled[:, :, None]
        if batch.want_logits:
            result.logits = confidence[:, :, None] * (sampled[:, :, None] == np.arange(self.manifest.vocab_size))
        return result

    def close(self) -> None:
        """Further steps raise EngineError."""
        self.closed = True

    def _row(self, batch: StepBatch, row: int, canvas: Int64, sampled: Int64, confidence: Float32, committed: Int64) -> None:
        past = int(batch.past_lengths[row])
        context = [round(float(value)) for value in batch.past.arrays[0][0, 0, row, 0, :past, 0]]
        query = batch.input_ids[row, : batch.query_lengths[row]].tolist()
        drawn = self._drawn(context, query, batch.block_ids[row, : len(query)].tolist())
        if batch.shift is not None and batch.shift[row]:
            drawn = [drawn[0], *drawn[:-1]]
        start = int(batch.window_start[row])
        real = range(start, min(start + batch.window_length, len(query)))
        banned = np.isneginf(batch.allow_table).min(axis=1)[batch.allow_rows[row]]  # [W], where nothing at all may stand
        sure = {i: 0.0 if banned[i - start] else self._confidence(past + i, drawn[i]) for i in real}
        masked = [i for i in real if query[i] == self.manifest.mask_token_id]
        best = sorted(masked, key=lambda i: (-sure[i], i))
        chosen = set(best[: int(batch.quota[row])]) | {i for i in masked if sure[i] >= batch.threshold[row]}
        for i in real:
            sampled[row, i - start] = drawn[i]
            confidence[row, i - start] = sure[i]
            canvas[row, i - start] = drawn[i] if i in chosen else query[i]
        committed[row] = len(chosen)

    def _drawn(self, context: list[int], query: list[int], block_ids: list[int]) -> list[int]:
        """What is drawn at every token of `query`, block after block. A negative id is a token that sees the blocks below -1 - id."""
        drawn: list[int] = []
        for number, block in _blocks(query, block_ids):
            seen = len(drawn) if number >= 0 else bisect_left([block_id for block_id in block_ids if block_id >= 0], -1 - number)
            before = context + query[:seen]
            alone = len(block) == 1 and block[0] != self.manifest.mask_token_id
            drawn += [self.script(before + block)] if alone else self._denoised(before, block)
        return drawn

    def _denoised(self, context: list[int], block: list[int]) -> list[int]:
        guesses: list[int] = []
        for i, token_id in enumerate(block):
            if token_id != self.manifest.mask_token_id:
                guesses.append(token_id)
                continue
            guess = self.script(context + guesses)
            wrong = self.wrong_every and (len(context) + i) % self.wrong_every == 0
            guesses.append(self._word(guess + 1) if wrong else guess)
        return guesses

    def _confidence(self, position: int, token_id: int) -> float:
        return 0.5 + (position * 37 + token_id * 11) % 50 / 100

    def _mixed(self, token_ids: Sequence[int]) -> int:
        state = 17
        for token_id in token_ids:
            state = (state * 31 + token_id + 7) % 1_000_003
        return self.manifest.eos_token_ids[0] if state % 29 == 0 else self._word(state)

    def _word(self, number: int) -> int:
        """A token id that is neither mask, end of line nor banned."""
        avoided = {self.manifest.mask_token_id, *self.manifest.eos_token_ids, *self.manifest.banned_token_ids}
        token_id = number % self.manifest.vocab_size
        while token_id in avoided:
            token_id = (token_id + 1) % self.manifest.vocab_size
        return token_id

    def _present(self, batch: StepBatch) -> KeyValues:
        present = KeyValues.zeros(self.manifest, *batch.input_ids.shape)
        for array in present.arrays:
            array[...] = batch.input_ids[None, None, :, None, :, None]
        return present


def _blocks(token_ids: Sequence[int], block_ids: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Tokens of one block id after another; equal ids stand together here. There may be more ids than tokens: those are padding's."""
    for number, block in groupby(zip(token_ids, block_ids, strict=False), key=lambda pair: pair[1]):
        yield number, [token_id for token_id, _ in block]
