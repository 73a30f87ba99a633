"""The committing kernel: one program per row ranks the window's positions by pairwise comparison and fills in those that pass.

It reads a few numbers per position, so it costs next to nothing beside the measuring.
"""

import triton
import triton.language as tl

from .draws import gumbel_noise, position_keys


@triton.jit
def position_scores(slot, window, tokens, live, positions, confidence, mask_token_id, heat, seed, step, vocab):
    """What positions are ranked by, their confidence, and whether they may be committed at all. Pointers to the row's first element."""
    inside = slot < window
    eligible = inside & (tl.load(tokens + slot, mask=inside, other=0) == mask_token_id) & (tl.load(live + slot, mask=inside, other=0) != 0)
    sure = tl.load(confidence + slot, mask=inside, other=0.0)
    score = sure
    if heat > 0:
        first, second = position_keys(seed, step, tl.load(positions + slot, mask=inside, other=0))
        score = sure + heat * gumbel_noise(first, second, vocab)  # the draw of a token after the last
    return score, sure, eligible


@triton.jit
def commit_kernel(
    tokens,  # int64 [B, W]
    live,  # bool [B, W]
    positions,  # int64 [B, W]
    quota,  # int64 [B]
    threshold,  # float32 [B]
    factor,  # float32 [B]
    rank_temperature,  # float32 [B]
    seed,  # int64 [B]
    step,  # int64 [B]
    sampled_ids,  # int64 [B, W]
    confidence,  # float32 [B, W]
    canvas,  # int64 [B, W], written
    committed,  # int64 [B], written
    window,  # W
    vocab,  # V
    mask_token_id,
    OWN: tl.constexpr,  # a power of two, at least W
    RIVALS: tl.constexpr,  # how many positions all are compared with at a time
):
    """One program per row: ranks its positions and fills in those that pass."""
    row = tl.program_id(0).to(tl.int64)
    first_place = row * window
    tokens += first_place
    live += first_place
    positions += first_place
    confidence += first_place
    heat = tl.load(rank_temperature + row)
    row_seed = tl.load(seed + row)
    row_step = tl.load(step + row)

    slot = tl.arange(0, OWN)
    score, sure, eligible = position_scores(
        slot, window, tokens, live, positions, confidence, mask_token_id, heat, row_seed, row_step, vocab
    )
    rank = tl.zeros((OWN,), tl.int32)
    for start in range(0, window, RIVALS):
        rival = start + tl.arange(0, RIVALS)
        rival_score, _, in_play = position_scores(
            rival, window, tokens, live, positions, confidence, mask_token_id, heat, row_seed, row_step, vocab
        )
        higher = rival_score[None, :] > score[:, None]
        tied = (rival_score[None, :] == score[:, None]) & (rival[None, :] < slot[:, None])
        rank += tl.sum(((higher | tied) & in_play[None, :]).to(tl.int32), axis=1)

    row_factor = tl.load(factor + row)
    demand = 1.0 - row_factor / (rank + 2).to(tl.float32)
    fails = eligible & (rank >= 1) & (sure < demand)
    reach = tl.min(tl.where(fails, rank, OWN), axis=0)
    reach = tl.where(row_factor > 0, reach, 0)
    chosen = (rank < tl.load(quota + row)) | (sure >= tl.load(threshold + row)) | (rank < reach)
    commit = eligible & chosen
    inside = slot < window
    filled = tl.where(commit, tl.load(sampled_ids + first_place + slot, mask=inside, other=0), tl.load(tokens + slot, mask=inside, other=0))
    tl.store(canvas + first_place + slot, filled, mask=inside)
    tl.store(committed + row, tl.sum(commit.to(tl.int64), axis=0))
