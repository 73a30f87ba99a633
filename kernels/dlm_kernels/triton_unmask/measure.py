"""The measuring kernel: one program per window position walks once over its logits and keeps everything that is asked about them.

With m the largest z so far, three sums follow it: s of exp(z - m) and t of (z - m) exp(z - m); when m grows to n, s becomes
exp(m - n) s and t becomes exp(m - n) (t + (m - n) s). Then p = exp(z - m) / s, and the entropy is log s - t / s.
(The online softmax of Milakov and Gimelshein, 2018, with one more moment.)

The K likeliest are a list in registers that is touched only while a block holds something above its worst entry: about K log(V / K)
times in all. A row with a temperature keeps, lane by lane, the best perturbed logit as well; a cold row makes no noise.
"""

# Triton declares that a reduction may return a tuple; here it never does.
# pyright: reportOperatorIssue=false
import triton
import triton.language as tl

from .draws import gumbel_noise, position_keys

BAN = tl.constexpr(-1e30)  # z of every banned token: finite, so that 0 times it is 0, and all alike, so that the lower id wins among them
BANNED = tl.constexpr(-1e29)  # what lies below is banned, by the table, by a filter before the op, or by a logit of -inf


@triton.jit
def follow(peak, mass, tilt, z, new_peak):
    """The sums s and t, lane by lane, after a block of z."""
    fade = tl.exp(peak - new_peak)
    distance = z - new_peak
    weight = tl.exp(distance)
    return fade * mass + weight, fade * (tilt + (peak - new_peak) * mass) + distance * weight


@triton.jit
def replace_worst(top_values, top_tokens, value, token):
    """The list with its worst entry (the lowest value, among equals the highest token) given up for a better one."""
    worst = tl.min(top_values, axis=0)
    latest = tl.max(tl.where(top_values == worst, top_tokens, -1), axis=0)
    here = (top_values == worst) & (top_tokens == latest)
    return tl.where(here, value, top_values), tl.where(here, token, top_tokens)


@triton.jit
def places(top_values, top_tokens):
    """Place of every entry of the list, 0 for the likeliest; the lower token wins a tie."""
    higher = top_values[None, :] > top_values[:, None]
    tied = (top_values[None, :] == top_values[:, None]) & (top_tokens[None, :] < top_tokens[:, None])
    return tl.sum((higher | tied).to(tl.int32), axis=1)


@triton.jit
def measure_kernel(
    logits,  # [B, W, V]
    positions,  # int64 [B, W]
    allow_rows,  # int64 [B, W]
    allow_table,  # float32 [G, V]
    measure,  # int64 [B]
    temperature,  # float32 [B]
    seed,  # int64 [B]
    step,  # int64 [B]
    sampled_ids,  # int64 [B, W], written, as all below
    confidence,  # float32 [B, W]
    entropy,  # float32 [B, W]
    top_ids,  # int64 [B, W, K]
    top_logprobs,  # float32 [B, W, K]
    window,  # W
    vocab,  # V
    TOP_K: tl.constexpr,
    SLOTS: tl.constexpr,  # a power of two, at least 2 and at least TOP_K
    BLOCK: tl.constexpr,  # tokens read at a time
):
    """One program per window position: see the top of this file."""
    place = tl.program_id(0).to(tl.int64)
    row = place // window
    heat = tl.load(temperature + row)
    first = tl.full((), 0, tl.int64)
    second = first
    if heat > 0:
        first, second = position_keys(tl.load(seed + row), tl.load(step + row), tl.load(positions + place))
    logits += place * vocab
    allow_table += tl.load(allow_rows + place) * vocab

    lanes = tl.arange(0, BLOCK)
    slots = tl.arange(0, SLOTS)
    top_values = tl.full((SLOTS,), float("-inf"), tl.float32)
    top_tokens = vocab + slots  # empty entries; their value loses to everything
    peak = tl.full((), BAN, tl.float32)
    mass = tl.zeros((BLOCK,), tl.float32)
    tilt = tl.zeros((BLOCK,), tl.float32)
    drawn_score = tl.full((BLOCK,), float("-inf"), tl.float32)
    drawn_value = tl.full((BLOCK,), BAN, tl.float32)
    drawn_token = tl.zeros((BLOCK,), tl.int32)

    for start in range(0, vocab, BLOCK):
        token = start + lanes
        inside = token < vocab
        raw = tl.load(logits + token, mask=inside, other=float("-inf"))
        bias = tl.load(allow_table + token, mask=inside, other=0.0)
        z = raw.to(tl.float32) + bias
        z = tl.where(z > BANNED, z, BAN)  # NaN too
        unlisted = tl.where(inside, z, float("-inf"))
        best = tl.max(unlisted, axis=0)
        new_peak = tl.maximum(peak, best)
        mass, tilt = follow(peak, mass, tilt, z, new_peak)
        peak = new_peak
        if heat > 0:
            score = tl.where(inside, z + heat * gumbel_noise(first, second, token), float("-inf"))
            wins = score > drawn_score  # not >=: the lower token wins a tie
            drawn_score = tl.where(wins, score, drawn_score)
            drawn_value = tl.where(wins, z, drawn_value)
            drawn_token = tl.where(wins, token, drawn_token)
        while best > tl.min(top_values, axis=0):
            hit = tl.min(tl.where(unlisted == best, token, vocab), axis=0)
            top_values, top_tokens = replace_worst(top_values, top_tokens, best, hit)
            unlisted = tl.where(token == hit, float("-inf"), unlisted)
            best = tl.max(unlisted, axis=0)

    order = places(top_values, top_tokens)
    total = tl.sum(mass, axis=0)
    log_total = tl.log(total)
    all_banned = peak < BANNED
    logprobs = tl.where(top_values < BANNED, float("-inf"), top_values - peak - log_total)
    tl.store(top_ids + place * TOP_K + order, top_tokens.to(tl.int64), mask=order < TOP_K)
    tl.store(top_logprobs + place * TOP_K + order, logprobs, mask=order < TOP_K)

    chosen = tl.sum(tl.where(order == 0, top_tokens, 0), axis=0)
    chosen_value = peak
    if heat > 0:
        best_score = tl.max(drawn_score, axis=0)
        chosen = tl.min(tl.where(drawn_score == best_score, drawn_token, vocab), axis=0)
        chosen_value = tl.max(tl.where(drawn_token == chosen, drawn_value, BAN), axis=0)
    chosen = tl.where(all_banned, 0, chosen)
    tl.store(sampled_ids + place, chosen.to(tl.int64))

    spread = tl.maximum(log_total - tl.sum(tilt, axis=0) / total, 0.0)
    spread = tl.where(all_banned, 0.0, spread)
    tl.store(entropy + place, spread)

    runner_up = tl.sum(tl.where(order == 1, top_values, 0.0), axis=0)  # -inf where V is 1
    margin = 1.0 / total - tl.exp(runner_up - peak) / total
    kind = tl.load(measure + row)
    sure = tl.where(kind == 0, tl.exp(chosen_value - peak) / total, tl.where(kind == 1, margin, -spread))
    worst = tl.where(kind == 2, -tl.log(vocab.to(tl.float32)), 0.0)
    tl.store(confidence + place, tl.where(all_banned, worst, sure))
