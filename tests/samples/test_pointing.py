"""Supervised attention looks at the very scores that the model's own attention uses."""

import numpy as np
import torch
from dlm_export.backbones.denoiser import Denoiser, rotate
from tavern_model.checkpoint import model_config
from tavern_model.initialise import POINTING_HEAD, POINTING_LAYERS
from tavern_model.objective import IGNORE, Noise, Row, collate, pack
from tavern_model.pointing import Pointing, head_scores
from tavern_model.samples import SampleMaker
from tavern_model.tokens import END, MASK, PAD, train_tokenizer


def test_head_scores_are_those_of_the_attention() -> None:
    torch.manual_seed(0)
    model = Denoiser(model_config(64))
    attention = model.layers[POINTING_LAYERS[0]].self_attn
    config = model.config
    x, positions = torch.randn(2, 7, config.hidden_size), torch.arange(7).expand(2, 7)
    rotary, bias = model.rotary(positions), torch.randn(2, 1, 7, 7)
    q = attention.q_proj(x).view(2, 7, config.heads, config.head_dim).transpose(1, 2)
    k = attention.k_proj(x).view(2, 7, config.kv_heads, config.head_dim).transpose(1, 2)
    cos, sin, scale = rotary
    q, k = rotate(q, cos, sin) * scale, rotate(k, cos, sin).repeat_interleave(config.heads // config.kv_heads, 1)
    expected = (q @ k.transpose(-1, -2))[:, POINTING_HEAD] * config.head_dim**-0.5 + bias[:, 0]
    assert torch.allclose(head_scores(attention, POINTING_HEAD, x, rotary, bias), expected, atol=1e-5)


def test_loss_is_finite_counts_every_source_and_reaches_the_weights() -> None:
    maker = SampleMaker(train_tokenizer(300), np.random.default_rng(0))
    ids = maker.special
    rows: list[Row] = [pack(maker.drill(), 256, Noise(ids[MASK], 8), ids[END], maker.rng) for _ in range(2)]
    batch = collate(rows, ids[PAD])
    assert (batch.sources != IGNORE).any()
    model = Denoiser(model_config(maker.tokenizer.get_vocab_size()))
    pointing = Pointing(model)
    model.hidden(batch.tokens, batch.positions, batch.mask)
    loss, report = pointing.loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert set(report) == {f"{stream}_pointing_{layer}" for stream in ("ar", "diffusion") for layer in POINTING_LAYERS}
    for layer in POINTING_LAYERS:
        gradient = model.layers[layer].self_attn.q_proj.weight.grad
        assert gradient is not None
        assert gradient.abs().sum() > 0
