"""Linear self-speculation (Nemotron-Labs-Diffusion `linear_spec_generate`): the model drafts in parallel and checks itself causally."""

from __future__ import annotations

from dataclasses import dataclass

from dlm_runtime.policies.block import Block
from dlm_runtime.policies.forward import Decoding, Forward, Prefill
from dlm_runtime.policies.line import Line


@dataclass(frozen=True, slots=True)
class LinearSelfSpeculation:
    """Drafts a block from the last token and masks, then verifies it in one causal pass.

    Drafted tokens are accepted while the causal pass draws the same ones, plus the first it draws otherwise; the causal pass also yields
    the keys and values of what was accepted. Draws depend on seed and position only, so the line equals the autoregressive one token for
    token, at every temperature. Drafts are always the best guess: the likeliest token is the likeliest to be drawn.

    `draft_threshold` 0 drafts in a single step; higher values spend more steps on better drafts. `as_published` drafts and
    verifies whole blocks even where fewer tokens are wanted or the draft ends the line sooner.
    """

    block_length: int
    mask_token_id: int
    draft_threshold: float = 0.0
    as_published: bool = False

    def decode(self, line: Line) -> Decoding:
        reply = yield Prefill(line.prompt_ids, line.temperature)
        seed_id = reply.sampled[-1]
        ended = line.extend([seed_id])
        while not ended:
            length = self.block_length if self.as_published else min(self.block_length, line.room)
            block = Block.after([seed_id], length, self.mask_token_id)
            step = 0
            while block.masks:
                step += 1
                yield from block.denoise(1, self.draft_threshold, 0.0, step)
            draft = block.token_ids if self.as_published else _worth_verifying(block.token_ids, line.eos_token_ids)
            line.show(draft[1:], [False] * (len(draft) - 1))
            reply = yield Forward(draft, True, 0, len(draft), temperature=line.temperature, keeps=True)
            accepted = _agreement(draft[1:], reply.sampled)
            reply.keep(accepted + 1)
            ended = line.extend(reply.sampled[: accepted + 1])
            seed_id = reply.sampled[accepted]


def _agreement(drafted: list[int], drawn: list[int]) -> int:
    """Length of the common beginning."""
    for index, token_id in enumerate(drafted):
        if token_id != drawn[index]:
            return index
    return len(drafted)


def _worth_verifying(draft: list[int], eos_token_ids: frozenset[int]) -> list[int]:
    """The draft up to the token before its first end of line: running that one says whether the line ends, and no more is asked."""
    end = next((index for index in range(1, len(draft)) if draft[index] in eos_token_ids), len(draft))
    return draft[:end]
