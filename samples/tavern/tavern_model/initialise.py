"""Initial weights that can already look things up.

A model this small, trained for an hour, spends most of it discovering induction heads (Olsson et al. 2022, arXiv:2209.11895), the
circuit that copies a fact from the card. So it is built in at the start, in the spirit of mimetic initialisation (Trockman & Kolter
2023, arXiv:2305.09828), and training is free to reshape it:

1. all embeddings share one constant direction, which gives heads something to read that is the same at every position;
2. in layer 0, two heads turn that constant into "look one / two tokens back" through the rotary embedding, and write what they saw into the
   residual stream;
3. in one later layer, a head compares the current token with what stood before each earlier token, another compares the last two tokens
   with the last two but one, and both copy the token they find;
4. in two further layers, one head copies whatever it looks at; where to look it is taught (`pointing`).

Everything else is drawn at random as usual.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from dlm_export.backbones.denoiser import Attention, Denoiser, Layer, rotate
from torch import Tensor

LOOK_BACK = (1, 2)  # offsets of the two position heads of layer 0; they share a key head
POSITION_SHARPNESS = 8.0  # logit per rotary frequency pair
MATCH_LOGIT = 20.0  # logit of a found token
EMBEDDING_SCALE = 0.1  # large against a step of AdamW, so that the first steps do not wash the circuit away
LOOK_BACK_SCALE = 0.2
COPY_SCALE = 1.0  # what a look-up adds to the residual stream, in the units of the embeddings
LOOK_UP_LAYER = 2
POINTING_LAYERS = (3, 4)
POINTING_HEAD = 2
MAX_DISTANCE = 100  # tokens over which contents are compared


def initialise(model: Denoiser) -> None:
    """Draw the weights of `model` in place (from torch's global generator)."""
    config = model.config
    _draw(model)
    constant = torch.nn.functional.normalize(torch.randn(config.hidden_size), dim=0) * math.sqrt(config.hidden_size)
    with torch.no_grad():
        model.embed_tokens.weight.add_(EMBEDDING_SCALE * constant)
        # What RMSNorm leaves of the constant and of the token's own part, both being equally large.
        unit = constant / math.sqrt(config.hidden_size)
        content = _orthonormal(config.head_dim, config.hidden_size, unit)  # [dh, D]
        written = [_orthonormal(config.head_dim, config.hidden_size, unit) for _ in LOOK_BACK]
        _look_back(model, unit, content, written)
        model.norm.weight.fill_(0.02 / EMBEDDING_SCALE)  # the head is tied: this keeps the first logits small
        _look_up(model, [(content, written[0]), (written[0], written[1])], unit)
        for index in POINTING_LAYERS:
            _copy(_attention(model, index), unit)


def _draw(model: Denoiser) -> None:
    """Normal weights of variance 1 / inputs, embeddings 0.02; projections into the residual stream begin at zero and disturb nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim != 2:
            continue
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.zeros_(parameter)
        else:
            torch.nn.init.normal_(parameter, 0.0, parameter.shape[1] ** -0.5 if name.startswith("layers.") else EMBEDDING_SCALE)


def _orthonormal(rows: int, columns: int, avoid: Tensor) -> Tensor:
    """`rows` orthonormal vectors [rows, columns], orthogonal to the unit vector `avoid`."""
    draw = torch.randn(columns, rows)
    draw -= avoid[:, None] * (avoid @ draw)
    return torch.linalg.qr(draw).Q.T


def _attention(model: Denoiser, index: int) -> Attention:
    return cast(Layer, model.layers[index]).self_attn


def _look_back(model: Denoiser, unit: Tensor, content: Tensor, written: list[Tensor]) -> None:
    attention, dim = _attention(model, 0), model.config.head_dim
    strength = math.sqrt(model.config.hidden_size / 2)  # length of the constant after RMSNorm
    turning = (model.inv_freq > 1 / 32).float()  # frequencies that tell neighbours apart
    amplitude = math.sqrt(POSITION_SHARPNESS * math.sqrt(dim)) / strength
    key = torch.cat((turning, torch.zeros_like(turning))) * amplitude
    attention.k_proj.weight[:dim] = key[:, None] * unit
    attention.v_proj.weight[:dim] = content
    for head, (offset, target) in enumerate(zip(LOOK_BACK, written, strict=True)):
        angles = -offset * model.inv_freq
        query = rotate(key, angles.cos(), angles.sin())
        attention.q_proj.weight[head * dim : (head + 1) * dim] = query[:, None] * unit
        attention.o_proj.weight[:, head * dim : (head + 1) * dim] = LOOK_BACK_SCALE * target.T


def _look_up(model: Denoiser, compared: list[tuple[Tensor, Tensor]], unit: Tensor) -> None:
    """One head per pair of `compared` directions [dh, D]: what the query reads, and what the earlier tokens' keys read."""
    config, dim = model.config, model.config.head_dim
    attention = _attention(model, min(LOOK_UP_LAYER, config.layers - 1))
    steady = model.inv_freq < 1 / MAX_DISTANCE  # frequencies that hardly turn over a card
    rows = torch.cat((steady, steady)).float()[:, None]
    # Contents have variance 1/2 after RMSNorm, the constant having taken the other half.
    scale = math.sqrt(MATCH_LOGIT * math.sqrt(dim) / (0.5 * float(rows.sum())))
    copied = _orthonormal(dim * config.kv_heads, config.hidden_size, unit)
    group = config.heads // config.kv_heads
    for kv_head, (asked, offered) in enumerate(compared[: config.kv_heads]):
        span, head = slice(kv_head * dim, (kv_head + 1) * dim), kv_head * group
        attention.q_proj.weight[head * dim : (head + 1) * dim] = scale * rows * asked
        attention.k_proj.weight[span] = scale * rows * offered
        attention.v_proj.weight[span] = copied[span]
        attention.o_proj.weight[:, head * dim : (head + 1) * dim] = COPY_SCALE * copied[span].T


def _copy(attention: Attention, unit: Tensor) -> None:
    config, dim, head = attention.config, attention.config.head_dim, POINTING_HEAD
    span = slice(head // (config.heads // config.kv_heads) * dim, (head // (config.heads // config.kv_heads) + 1) * dim)
    copied = _orthonormal(dim, config.hidden_size, unit)
    attention.v_proj.weight[span] = copied
    attention.o_proj.weight[:, head * dim : (head + 1) * dim] = COPY_SCALE * copied.T
