"""The joint objective of a tri-mode model: autoregression on the clean stream, masked diffusion on noisy copies of the reply blocks.

A training row holds a card, then the clean tokens of several conversations about it, then one noisy block per reply block:

    [card | conversation 1 | conversation 2 | ... | noisy block 1 | noisy block 2 | ...]

Clean tokens are causal within card + own conversation. A noisy block sees the clean tokens before its reply block and, in both directions,
itself. That is exactly what the step graph computes when it prefills, decodes, verifies (clean) and denoises (noisy).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tavern_model.conversation import CardSample, Turn

IGNORE = -100
NOT_NOISY = -1


@dataclass(frozen=True)
class Noise:
    """How reply blocks are corrupted. The first token of a block is never masked: at run time it is the seed, known from the prefix."""

    mask_token_id: int
    block_length: int
    fully_masked_share: float = 0.5
    copies: int = 2  # noisy copies of each reply block: they share the clean tokens, which cost as much as a copy
    fill_weight: float = 0.1  # loss weight of positions behind the end of a line
    copied_weight: float = 5.0  # loss weight of tokens that repeat a fact of the card

    def corrupt(self, block: np.ndarray, real_tokens: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """`block` int64 [block_length] -> noisy tokens and targets (IGNORE where visible), both [block_length]."""
        ratio = 1.0 if rng.random() < self.fully_masked_share else rng.uniform(0.1, 1.0)
        masked = rng.random(self.block_length) < ratio
        if rng.random() < 0.5:
            masked[real_tokens:] = True
        masked[0] = False
        return np.where(masked, self.mask_token_id, block), np.where(masked, block, IGNORE)


class Row:
    """One packed row under construction: parallel lists, one entry per token."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.branch: list[int] = []
        self.noisy: list[int] = []  # index of the noisy block, NOT_NOISY for clean tokens
        self.targets: list[int] = []
        self.weights: list[float] = []
        self.sources: list[int] = []  # index in the row of the card token that the target repeats, IGNORE for none

    def add(
        self,
        tokens: list[int],
        first_position: int,
        branch: int,
        targets: list[int],
        weights: list[float],
        sources: list[int],
        noisy: int = NOT_NOISY,
    ) -> None:
        """Append `tokens` at consecutive positions; the lists are of equal length."""
        count = len(tokens)
        self.tokens += tokens
        self.positions += range(first_position, first_position + count)
        self.branch += [branch] * count
        self.noisy += [noisy] * count
        self.targets += targets
        self.weights += weights
        self.sources += sources

    def extend(self, other: Row) -> None:
        """Append another row's tokens."""
        for name in vars(self):
            getattr(self, name).extend(getattr(other, name))


@dataclass
class _Conversation:
    """One branch packed on its own: clean tokens and the noisy blocks of its replies."""

    clean: Row
    noisy: Row
    blocks: int

    def __len__(self) -> int:
        return len(self.clean.tokens) + len(self.noisy.tokens)


def _pack_conversation(
    turns: list[Turn], branch: int, position: int, first_block: int, noise: Noise, end: int, rng: np.random.Generator
) -> _Conversation:
    packed = _Conversation(Row(), Row(), first_block)
    for turn in turns:
        weights = [1.0 if source is None else noise.copied_weight for source in turn.sources]
        sources = [IGNORE if source is None else source for source in turn.sources]
        prompt_targets = [IGNORE] * (len(turn.prompt) - 1) + turn.reply[:1]
        prompt_sources = [IGNORE] * (len(turn.prompt) - 1) + sources[:1]
        packed.clean.add(turn.prompt, position, branch, prompt_targets, [weights[0]] * len(turn.prompt), prompt_sources)
        start = position + len(turn.prompt)
        packed.clean.add(turn.reply, start, branch, [*turn.reply[1:], IGNORE], [*weights[1:], 0.0], [*sources[1:], IGNORE])
        for offset in range(0, len(turn.reply), noise.block_length):
            real = turn.reply[offset : offset + noise.block_length]
            fill = noise.block_length - len(real)
            block_weights = weights[offset : offset + noise.block_length] + [noise.fill_weight] * fill
            block_sources = sources[offset : offset + noise.block_length] + [IGNORE] * fill
            for _ in range(noise.copies):
                tokens, targets = noise.corrupt(np.array(real + [end] * fill), len(real), rng)
                masked_sources = np.where(targets == IGNORE, IGNORE, block_sources).tolist()
                packed.noisy.add(tokens.tolist(), start + offset, branch, targets.tolist(), block_weights, masked_sources, packed.blocks)
                packed.blocks += 1
        position = start + len(turn.reply)
    return packed


def pack(sample: CardSample, length: int, noise: Noise, end_token_id: int, rng: np.random.Generator) -> Row:
    """Pack as much of `sample` as fits into `length` tokens (whole conversations only)."""
    clean, noisy, blocks = Row(), Row(), 0
    clean.add(sample.card, 0, 0, [IGNORE] * len(sample.card), [0.0] * len(sample.card), [IGNORE] * len(sample.card))
    for branch, turns in enumerate(sample.branches, start=1):
        packed = _pack_conversation(turns, branch, len(sample.card), blocks, noise, end_token_id, rng)
        if len(clean.tokens) + len(noisy.tokens) + len(packed) > length:
            break
        clean.extend(packed.clean)
        noisy.extend(packed.noisy)
        blocks = packed.blocks
    clean.extend(noisy)
    return clean


@dataclass(frozen=True)
class Batch:
    """A padded batch of packed rows; all tensors [B, T] but `mask` [B, 1, T, T] (True = visible)."""

    tokens: Tensor
    positions: Tensor
    noisy: Tensor
    targets: Tensor
    weights: Tensor
    sources: Tensor
    mask: Tensor


def collate(rows: list[Row], pad_token_id: int) -> Batch:
    """Pad `rows` to the longest and build their attention mask."""
    length = max(len(row.tokens) for row in rows)

    def padded(name: str, fill: float, dtype: torch.dtype) -> Tensor:
        return torch.tensor([getattr(row, name) + [fill] * (length - len(row.tokens)) for row in rows], dtype=dtype)

    tokens, positions = padded("tokens", pad_token_id, torch.int64), padded("positions", 0, torch.int64)
    branch, noisy = padded("branch", -1, torch.int64), padded("noisy", NOT_NOISY, torch.int64)
    targets, weights = padded("targets", IGNORE, torch.int64), padded("weights", 0.0, torch.float32)
    sources = padded("sources", IGNORE, torch.int64)
    return Batch(tokens, positions, noisy, targets, weights, sources, attention_mask(positions, branch, noisy))


def attention_mask(positions: Tensor, branch: Tensor, noisy: Tensor) -> Tensor:
    """Visibility [B, 1, T, T] from three int64 [B, T] descriptions of the tokens. Padding (branch -1) sees itself only."""
    query, key = (lambda t: t[:, :, None]), (lambda t: t[:, None, :])
    is_noisy = noisy != NOT_NOISY
    # A noisy block begins where its reply block begins; its tokens see clean tokens before that position.
    index = torch.where(is_noisy, noisy, 0)
    block_start = torch.full_like(positions, torch.iinfo(torch.int64).max).scatter_reduce(
        1, index, torch.where(is_noisy, positions, torch.iinfo(torch.int64).max), "amin"
    )
    limit = torch.where(is_noisy, block_start.gather(1, index) - 1, positions)
    same_conversation = (key(branch) == 0) | (key(branch) == query(branch))
    real = (query(branch) >= 0) & (key(branch) >= 0)
    clean = ~key(is_noisy) & same_conversation & (key(positions) <= query(limit)) & real
    block = key(is_noisy) & query(is_noisy) & (key(noisy) == query(noisy))
    itself = torch.eye(positions.shape[1], dtype=torch.bool)
    return (clean | block | itself)[:, None]


@dataclass(frozen=True)
class Losses:
    """The loss to descend (a tensor) and what to log: mean cross-entropies in nats and teacher-forced accuracies."""

    total: Tensor
    report: dict[str, float]


def joint_loss(hidden: Tensor, head: torch.nn.Linear, batch: Batch, autoregressive_weight: float) -> Losses:
    """`hidden` [B, T, D] -> diffusion loss + `autoregressive_weight` x AR loss. The head runs only on positions that have a target."""
    wanted = batch.targets != IGNORE
    logits = head(hidden[wanted]).float()
    targets, weights, noisy = batch.targets[wanted], batch.weights[wanted], batch.noisy[wanted] != NOT_NOISY
    losses = F.cross_entropy(logits, targets, reduction="none")

    def mean(values: Tensor, weight: Tensor) -> Tensor:
        return (values * weight).sum() / weight.sum().clamp(min=1)

    ar, diffusion = mean(losses, weights * ~noisy), mean(losses, weights * noisy)
    right = (logits.detach().argmax(-1) == targets).float()
    report = {"ar_loss": float(ar.detach()), "diffusion_loss": float(diffusion.detach())}
    for stream, selected in (("ar", ~noisy), ("diffusion", noisy)):
        report[f"{stream}_accuracy"] = float(mean(right, (selected & (weights >= 1)).float()))
        report[f"{stream}_copied"] = float(mean(right, (selected & (weights > 1)).float()))
    return Losses(diffusion + autoregressive_weight * ar, report)
