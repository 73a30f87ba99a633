"""Packing and masking of the joint objective, against a plain reading of its rules."""

import numpy as np
import pytest
import torch
from tavern_model.conversation import CardSample, Turn
from tavern_model.objective import IGNORE, NOT_NOISY, Noise, Row, attention_mask, collate, joint_loss, pack

MASK, END, PAD, BLOCK = 1, 2, 0, 4


def packed(fully_masked_share: float = 1.0, length: int = 200, copies: int = 1) -> Row:
    sample = CardSample(
        [10, 11, 12],
        [
            [Turn([20, 21], [30, 31, END], [None, 1, None]), Turn([22], [32, 33, 34, 35, 36, END], [None] * 6)],
            [Turn([23], [37, END], [2, None])],
        ],
    )
    return pack(sample, length, Noise(MASK, BLOCK, fully_masked_share, copies), END, np.random.default_rng(0))


def visible(row: Row, query: int, key: int) -> bool:
    """The rules, token by token."""
    if query == key:
        return True
    if row.noisy[key] != NOT_NOISY:
        return row.noisy[query] == row.noisy[key]
    if row.branch[key] not in (0, row.branch[query]):
        return False
    if row.noisy[query] == NOT_NOISY:
        return row.positions[key] <= row.positions[query]
    start = min(position for position, noisy in zip(row.positions, row.noisy, strict=True) if noisy == row.noisy[query])
    return row.positions[key] < start


@pytest.mark.parametrize("copies", [1, 2])
def test_mask_equals_the_rules(copies: int) -> None:
    row = packed(copies=copies)
    size = len(row.tokens)
    mask = collate([row], PAD).mask[0, 0]
    expected = torch.tensor([[visible(row, query, key) for key in range(size)] for query in range(size)])
    assert torch.equal(mask, expected)


def test_padding_sees_itself_and_is_seen_by_nobody() -> None:
    short, long = packed(length=30), packed()
    mask = collate([short, long], PAD).mask[0, 0]
    real = len(short.tokens)
    assert torch.equal(mask[real:], torch.eye(len(long.tokens), dtype=torch.bool)[real:])
    assert not mask[:real, real:].any()


def test_every_reply_token_but_the_seed_of_a_block_is_a_diffusion_target() -> None:
    row = packed()
    noisy = [index for index, block in enumerate(row.noisy) if block != NOT_NOISY]
    targets = [row.targets[index] for index in noisy]
    assert targets == [
        *(IGNORE, 31, END, END),
        *(IGNORE, 33, 34, 35),
        *(IGNORE, END, END, END),
        *(IGNORE, END, END, END),
    ]
    assert [row.tokens[index] for index in noisy][::BLOCK] == [30, 32, 36, 37]


def test_the_clean_stream_predicts_each_reply_from_the_token_before_it() -> None:
    row = packed()
    clean = [(row.tokens[index], row.targets[index]) for index in range(len(row.tokens)) if row.noisy[index] == NOT_NOISY]
    assert [pair for pair in clean if pair[1] != IGNORE] == [
        *((21, 30), (30, 31), (31, END)),
        *((22, 32), (32, 33), (33, 34), (34, 35), (35, 36), (36, END)),
        *((23, 37), (37, END)),
    ]


def test_a_row_takes_whole_conversations_only() -> None:
    assert max(packed(length=30).branch) == 1
    assert max(packed().branch) == 2


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_loss_is_the_weighted_mean_of_both_streams(share: float) -> None:
    batch = collate([packed(share)], PAD)
    torch.manual_seed(0)
    hidden, head = torch.randn(*batch.tokens.shape, 8), torch.nn.Linear(8, 40, bias=False)
    losses = joint_loss(hidden, head, batch, 0.3)
    assert float(losses.total.detach()) == pytest.approx(losses.report["diffusion_loss"] + 0.3 * losses.report["ar_loss"], rel=1e-5)


def test_mask_ignores_what_lies_in_padding() -> None:
    positions, branch, noisy = torch.tensor([[0, 1, 0]]), torch.tensor([[0, 0, -1]]), torch.full((1, 3), NOT_NOISY)
    assert torch.equal(attention_mask(positions, branch, noisy)[0, 0], torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool))
