"""DiffusionGemma: recorded logits, rows of both roles in one batch, and what its config may say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dlm_export.backbones.diffusion_gemma import AttentionKind, DiffusionGemma, DiffusionGemmaBackbone
from dlm_export.checkpoint import Checkpoint
from dlm_export.errors import CheckpointError
from dlm_export.export_options import ExportOptions
from dlm_export.exporting import export_bundle
from dlm_export.families import SpecialOverrides, TensorSource, family_of
from dlm_export.loading import load_module
from dlm_export.verify.golden import GoldenCase, golden_cases
from dlm_export.verify.golden_diffusion_gemma import replay_diffusion_gemma, unmask_nothing
from dlm_export.verify.session import StepSession
from dlm_runtime.bundle import Bundle

GOLDEN = Path(__file__).parents[1] / "fixtures" / "diffusion_gemma"
CASES = golden_cases(GOLDEN)
WINDOW = 6
KeyValues = list[tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("diffusion_gemma") / "bundle"
    export_bundle(GOLDEN, folder)
    return Bundle.load(folder)


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> StepSession:
    return StepSession(bundle)


@pytest.fixture(scope="module")
def module() -> DiffusionGemma:
    loaded = load_module(Checkpoint.open(GOLDEN))
    assert isinstance(loaded, DiffusionGemma)
    return loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A writable copy of the golden checkpoint, without its recorded logits."""
    return shutil.copytree(GOLDEN, tmp_path / "gemma", ignore=shutil.ignore_patterns("logits.npz", "samples.json"))


def set_config(folder: Path, text: dict[str, Any] | None = None, remove: tuple[str, ...] = (), **changes: Any) -> None:
    file = folder / "config.json"
    fields = json.loads(file.read_text(encoding="utf-8")) | changes
    fields["text_config"] = {key: value for key, value in (fields["text_config"] | (text or {})).items() if key not in remove}
    file.write_text(json.dumps(fields), encoding="utf-8")


def backbone_of(folder: Path) -> DiffusionGemmaBackbone:
    opened = Checkpoint.open(folder)
    backbone = family_of(opened).backbone(opened)
    assert isinstance(backbone, DiffusionGemmaBackbone)
    return backbone


def encode(module: DiffusionGemma, ids: torch.Tensor, past: KeyValues | None = None) -> tuple[torch.Tensor, KeyValues]:
    """Hidden states of the encoder over `ids` [L], and keys and values of all so far."""
    start = past[0][0].shape[2] if past else 0
    size = len(ids)
    mask = torch.cat((torch.ones(size, start, dtype=torch.bool), torch.ones(size, size, dtype=torch.bool).tril()), 1)[None, None]
    hidden, new = module.hidden(ids[None], torch.arange(start, start + size)[None], mask, past, encode=True)
    return hidden, [(torch.cat((k, k2), 2), torch.cat((v, v2), 2)) for (k, v), (k2, v2) in zip(past, new, strict=True)] if past else new


def decode(module: DiffusionGemma, ids: torch.Tensor, past: KeyValues, conditioning: torch.Tensor | None) -> torch.Tensor:
    """Logits of the decoder over a canvas `ids` [L]."""
    start, size = past[0][0].shape[2], len(ids)
    mask = torch.ones(1, 1, size, start + size, dtype=torch.bool)
    return module(ids[None], torch.arange(start, start + size)[None], mask, past, self_conditioning=conditioning)[0]


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@torch.no_grad()
def test_torch_equals_the_recorded_logits(case: GoldenCase, double: bool) -> None:
    loaded = load_module(Checkpoint.open(GOLDEN))
    assert isinstance(loaded, DiffusionGemma)
    loaded = loaded.double() if double else loaded
    hidden, past = encode(loaded, torch.from_numpy(case["prefix_ids"][0]))
    conditioning = torch.from_numpy(case["self_conditioning_logits"]) if "self_conditioning_logits" in case else None
    logits = decode(loaded, torch.from_numpy(case["input_ids"][0]), past, conditioning)
    assert logits.dtype == (torch.float64 if double else torch.float32)
    assert np.abs(hidden.numpy() - case["prefix_hidden"]).max() <= 1e-5
    assert np.abs(logits.numpy() - case["logits"]).max() <= 1e-4


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_graph_equals_the_recorded_logits(session: StepSession, case: GoldenCase) -> None:
    result = replay_diffusion_gemma(session, case)
    assert result.finite
    assert result.largest_error <= case.tolerance == 1e-4, result


def test_manifest(bundle: Bundle) -> None:
    m = bundle.manifest
    assert (m.family, m.context_mask, m.modes, m.block_length, m.max_context) == ("diffusion_gemma", "causal", ("diffusion",), 8, 512)
    assert (m.mask_token_id, m.eos_token_ids, m.pad_token_id, m.bos_token_id) == (None, (1,), 0, 2)
    assert [m.cache_shape(layer) for layer in range(3)] == [(2, 8), (2, 8), (1, 16)]


@torch.no_grad()
def test_rows_of_both_roles_share_a_step(session: StepSession, module: DiffusionGemma) -> None:
    """Encoding with and without a past, decoding with and without self-conditioning; padding is noise that must not matter."""
    rng, m = np.random.default_rng(3), session.manifest
    lengths, pasts, roles = [9, 5, 8, 8], [0, 11, 3, 14], [True, True, False, False]
    length, past_length = max(lengths), max(pasts)
    ids = rng.integers(0, m.vocab_size, (4, length))
    conditioning = (rng.standard_normal((4, length, m.vocab_size)) * 5).astype(np.float32)
    conditioning[0] = np.nan
    kept = [encode(module, torch.from_numpy(rng.integers(0, m.vocab_size, past)))[1] if past else None for past in pasts]
    feed = unmask_nothing(m, (4, length)) | {
        "input_ids": ids,
        "position_ids": np.array(pasts)[:, None] + np.arange(length),
        "past_lengths": np.array(pasts),
        "query_lengths": np.array(lengths),
        "block_ids": np.where(np.array(roles)[:, None], np.arange(length), 0),
        "encode": np.array(roles),
        "self_conditioning": conditioning,
        "self_conditioned": np.array([False, True, False, True]),
    }
    for layer in range(m.layers):
        for part, name in enumerate(("key", "value")):
            kv_heads, head_dim = m.cache_shape(layer)
            padded = rng.standard_normal((4, kv_heads, past_length, head_dim)).astype(np.float32) * 10
            for row, past in enumerate(kept):
                if past is not None:
                    padded[row, :, : pasts[row]] = past[layer][part][0]
            feed[f"past.{layer}.{name}"] = padded
    outputs = session.run(feed).outputs
    for row, (size, past) in enumerate(zip(lengths, kept, strict=True)):
        own = torch.from_numpy(ids[row, :size])
        if roles[row]:
            hidden, new = encode(module, own, past)
            cap = module.config.logit_cap
            expected = torch.tanh(hidden @ module.embed_tokens.weight.T / cap) * cap
            for layer in range(m.layers):
                found = outputs[f"present.{layer}.key"][row, :, :size]
                assert np.abs(found - new[layer][0][0, :, pasts[row] :].numpy()).max() <= 1e-5
        else:
            assert past is not None
            expected = decode(module, own, past, torch.from_numpy(conditioning[row : row + 1, :size]) if row == 3 else None)
        assert np.abs(outputs["logits"][row, :size] - expected[0].numpy()).max() <= 1e-4
    assert not outputs["committed"].any()  # without a mask token there is nothing to fill in


@torch.no_grad()
def test_only_the_last_window_of_the_past_counts_in_sliding_layers(module: DiffusionGemma) -> None:
    _, past = encode(module, torch.arange(20))
    canvas = torch.arange(30, 38)
    plain = decode(module, canvas, past, None)
    for columns, changes in ((slice(0, 20 - (WINDOW - 1)), False), (slice(20 - (WINDOW - 1), 21 - (WINDOW - 1)), True)):
        edited = [(key.clone(), value.clone()) for key, value in past]
        for key, value in edited[:2]:  # the third layer sees everything
            key[:, :, columns] = 7
            value[:, :, columns] = 7
        assert torch.equal(plain, decode(module, canvas, edited, None)) is not changes


def test_int8_exports_and_runs(tmp_path: Path) -> None:
    export_bundle(GOLDEN, tmp_path / "bundle", ExportOptions(precision="int8"))
    case = CASES[3]
    result = replay_diffusion_gemma(StepSession(Bundle.load(tmp_path / "bundle")), case)
    assert result.largest_error < float(np.abs(case["logits"]).max())


def test_tensors_lie_where_the_checkpoint_keeps_them(folder: Path) -> None:
    family, backbone = family_of(Checkpoint.open(folder)), backbone_of(folder)
    stacked = "model.decoder.layers.1.experts"
    assert family.source("layers.1.experts.3.gate_up_proj.weight", (48, 48), backbone) == TensorSource(
        f"{stacked}.gate_up_proj", (4, 48, 48), (3,)
    )
    assert family.source("layers.1.experts.0.down_proj.weight", (48, 24), backbone) == TensorSource(
        f"{stacked}.down_proj", (4, 48, 24), (0,)
    )
    assert family.source("layers.2.encoder_layer_scalar", (1,), backbone).key == "model.encoder.language_model.layers.2.layer_scalar"
    assert family.source("layers.2.layer_scalar", (1,), backbone).key == "model.decoder.layers.2.layer_scalar"


def test_newer_spelling_of_full_layers(folder: Path) -> None:
    plain = backbone_of(folder)
    own = {"2": {"head_dim": 16, "num_key_value_heads": 1}}
    set_config(folder, {"per_layer_config": own}, remove=("global_head_dim", "num_global_key_value_heads"))
    assert backbone_of(folder) == plain


def test_numbers_of_layers_are_filled_up_with_zeros(folder: Path) -> None:
    kinds = ["sliding_attention"] * 11
    kinds[1] = kinds[10] = "full_attention"
    own = {layer: {"head_dim": 16} for layer in ("01", "10")}
    set_config(folder, {"num_hidden_layers": 11, "layer_types": kinds, "per_layer_config": own}, remove=("global_head_dim",))
    config = backbone_of(folder).config
    assert (config.full_layers, config.full.head_dim) == ({1, 10}, 16)


def test_defaults(folder: Path) -> None:
    set_config(folder, {"num_hidden_layers": 8}, remove=("layer_types", "rope_parameters", "global_head_dim", "num_global_key_value_heads"))
    config = backbone_of(folder).config
    assert config.full_layers == {5, 7}
    assert config.sliding == AttentionKind(8, 2, 10_000.0, 4, window=WINDOW)
    assert config.full == AttentionKind(512, 2, 1_000_000.0, 64)


def test_the_last_layer_is_always_full(folder: Path) -> None:
    set_config(folder, {"layer_types": ["sliding_attention"] * 3})
    assert backbone_of(folder).config.full_layers == {2}


def test_generation_config_may_list_more_ends(folder: Path) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": [1, 106, 50]}), encoding="utf-8")
    opened = Checkpoint.open(folder)
    assert family_of(opened).special_tokens(opened, SpecialOverrides()).eos_token_ids == (1, 106, 50)


def test_proportional_frequencies() -> None:
    kind = AttentionKind(head_dim=8, kv_heads=1, rope_theta=16.0, rotary_pairs=2, rope_factor=2.0)
    assert kind.inverse_frequencies().tolist() == [0.5, 0.25, 0.0, 0.0]


def rope(**changes: Any) -> dict[str, Any]:
    full = {"rope_type": "proportional", "rope_theta": 2000.0, "partial_rotary_factor": 0.25}
    return {"rope_parameters": {"full_attention": full, "sliding_attention": {"rope_theta": 1e4} | changes}}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_activation": "silu"}, "hidden_activation"),
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention"),
        ({"attention_k_eq_v": False}, "attention_k_eq_v"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
        ({"layer_types": ["full_attention", "chunked_attention", "full_attention"]}, "layer_types"),
        ({"layer_types": None, "num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"sliding_window": 1}, "sliding_window"),
        ({"top_k_experts": 5}, "sizes"),
        ({"head_dim": 7}, "sizes"),
        ({"per_layer_config": {"1": {"head_dim": 16}}}, "per_layer_config"),
        ({"per_layer_config": {"2": {"head_dim": 16, "sliding_window": 3}}}, "per_layer_config"),
        (rope(rope_type="yarn"), "rope_type"),
        (rope(partial_rotary_factor=0.5), "partial_rotary_factor"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 2000.0}}}, "sliding_attention"),
    ],
)
def test_what_cannot_be_computed_is_refused(folder: Path, text: dict[str, Any], field: str) -> None:
    set_config(folder, text)
    with pytest.raises(CheckpointError, match=field):
        backbone_of(folder)


def test_untied_weights_and_mask_tokens_are_refused(folder: Path) -> None:
    opened = Checkpoint.open(folder)
    with pytest.raises(CheckpointError, match="mask_token_id"):
        family_of(opened).special_tokens(opened, SpecialOverrides(mask_token_id=5))
    set_config(folder, canvas_length=1000)
    with pytest.raises(CheckpointError, match="canvas_length"):
        family_of(opened).max_context(Checkpoint.open(folder))
    set_config(folder, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        backbone_of(folder)
