"""From config.json to sizes and ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dlm_export.backbones.denoiser import DenoiserBackbone, DenoiserConfig, YarnScaling
from dlm_export.checkpoint import Checkpoint
from dlm_export.errors import CheckpointError, UnknownFamily
from dlm_export.exporting import export_bundle
from dlm_export.families import FAMILIES, SpecialOverrides, family_of


def config_of(path: Path) -> DenoiserConfig:
    checkpoint = Checkpoint.open(path)
    backbone = family_of(checkpoint).backbone(checkpoint)
    assert isinstance(backbone, DenoiserBackbone)
    return backbone.config


def test_golden_config(golden_checkpoint: Path) -> None:
    assert config_of(golden_checkpoint) == DenoiserConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=160,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        rope_theta=2000.0,
        norm_eps=1e-5,
        rope_scaling=YarnScaling(factor=16.0, original_max_positions=16384, attention_factor=1.0),
        query_scale_beta=0.1,
        query_scale_positions=16384,
    )


def test_golden_ids(golden_checkpoint: Path) -> None:
    checkpoint = Checkpoint.open(golden_checkpoint)
    tokens = family_of(checkpoint).special_tokens(checkpoint, SpecialOverrides())
    assert (tokens.mask_token_id, tokens.bos_token_id, tokens.eos_token_ids, tokens.pad_token_id, tokens.block_length) == (
        100,
        1,
        (11,),
        11,
        8,
    )


def test_key_names() -> None:
    family = FAMILIES["NemotronLabsDiffusionModel"]
    assert family.checkpoint_key("layers.3.self_attn.q_proj.weight") == "encoder.layers.3.self_attn.q_proj.weight"
    assert family.checkpoint_key("head.weight") == "diffusion_head.weight"


ARCHITECTURES = [
    "A2DLlamaLMHeadModel",
    "A2DQwen2LMHeadModel",
    "A2DQwen3LMHeadModel",
    "BD3LM",
    "BertForMaskedLM",
    "DiffusionGemmaForBlockDiffusion",
    "DreamModel",
    "Fast_dLLM_QwenForCausalLM",
    "LLaDA2MoeModelLM",
    "LLaDAMoEModelLM",
    "LLaDAModelLM",
    "MDLM",
    "ModernBertForMaskedLM",
    "NemotronLabsDiffusionModel",
    "SDARForCausalLM",
    "SDARMoeForCausalLM",
]


def test_the_registry() -> None:
    assert sorted(FAMILIES) == ARCHITECTURES
    assert len({family.facts.name for family in FAMILIES.values()}) == len(FAMILIES)


def test_unknown_architecture_lists_the_known_ones_and_says_what_a_new_one_needs(checkpoint: Any, refused: Callable[..., None]) -> None:
    checkpoint.config(architectures=["GPT2LMHeadModel"])
    with pytest.raises(UnknownFamily) as caught:
        config_of(checkpoint.path)
    assert caught.value.architecture == "GPT2LMHeadModel"
    assert caught.value.known == ARCHITECTURES
    known = f"Known ones are {', '.join(ARCHITECTURES)}."
    needs = "A new one needs a key map, its numbers, its mask kind and its shift: docs/adding-a-family.md says how"
    refused(checkpoint.path, "architectures[0] is 'GPT2LMHeadModel', which no family here reads", known, needs)


@pytest.mark.parametrize(
    ("architectures", "model_type", "name"),
    [
        (["LLaDAMoEModelLM"], "llada", "llada_moe"),
        (["LLaDAModelLM"], "Dream", "llada"),
        (["DreamModel"], "qwen3", "dream"),
        (["DreamModel"], None, "dream"),
        (["DreamModel", "LLaDAModelLM"], "llada", "dream"),
        (["BD3LM", "MDLM"], "mdlm", "bd3lm"),
    ],
)
def test_the_first_architecture_alone_decides(checkpoint: Any, architectures: list[str], model_type: str | None, name: str) -> None:
    checkpoint.config(architectures=architectures, model_type=model_type)
    assert family_of(Checkpoint.open(checkpoint.path)).facts.name == name


@pytest.mark.parametrize(
    ("architectures", "model_type"),
    [
        (["DreamForCausalLM"], "Dream"),
        (["EfficientDLM"], "qwen3"),
        (["dreammodel"], "Dream"),
        (["LLaDAModelLM "], "llada"),
        (["", "LLaDAModelLM"], "llada"),
        (["Qwen3ForCausalLM", "A2DQwen3LMHeadModel"], "qwen3"),
    ],
)
def test_no_model_type_makes_up_for_an_unknown_architecture(checkpoint: Any, architectures: list[str], model_type: str) -> None:
    checkpoint.config(architectures=architectures, model_type=model_type)
    with pytest.raises(UnknownFamily):
        family_of(Checkpoint.open(checkpoint.path))


@pytest.mark.parametrize("architectures", [None, [], "NemotronLabsDiffusionModel", [3]])
def test_architectures_must_be_a_list_of_names(checkpoint: Any, architectures: object) -> None:
    checkpoint.config(architectures=architectures)
    with pytest.raises(CheckpointError, match=r"config\.json: architectures"):
        config_of(checkpoint.path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", None, "hidden_size: is missing, expected a whole number"),
        ("num_hidden_layers", 0, "num_hidden_layers: is 0, expected a whole number from 1 to 2147483647"),
        ("vocab_size", "many", "vocab_size: is 'many'"),
        ("rms_norm_eps", True, "rms_norm_eps: is True, expected a number"),
        ("num_key_value_heads", 3, "sizes: do not fit together: heads=4 is not a multiple of kv_heads=3"),
        ("hidden_act", "gelu", "hidden_act: is 'gelu', only 'silu' can be exported"),
        ("attention_bias", True, "attention_bias: is True"),
        ("mlp_bias", True, "mlp_bias: is True"),
        ("sliding_window", 4096, "sliding_window: is 4096"),
        ("rope_parameters", {"rope_type": "dynamic", "rope_theta": 1e4}, "rope_parameters.rope_type: is 'dynamic'"),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4}, "rope_parameters.factor: is missing"),
        ("rope_parameters", "yarn", "rope_parameters: is 'yarn', expected an object"),
        ("rope_parameters", {"type": "longrope", "rope_theta": 1e4}, "rope_parameters.type: is 'longrope'"),
        ("rope_parameters", {"rope_theta": 1}, "rope_parameters.rope_theta: is 1, expected a number above 1"),
        ("rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 1.5}, "partial_rotary_factor: is 1.5"),
        ("quantization_config", {"quant_method": "fp8"}, "quantization_config: is {'quant_method': 'fp8'}"),
        ("vocab_size", 10**400, "vocab_size: is 1000"),
        ("rms_norm_eps", float("nan"), "rms_norm_eps: is nan, expected a number"),
        ("rms_norm_eps", 10**400, "rms_norm_eps: is 1000"),
        ("rms_norm_eps", 0, "rms_norm_eps: is 0, expected a number above 0"),
        ("tie_word_embeddings", "false", "tie_word_embeddings: is 'false', expected true or false"),
    ],
)
def test_config_that_cannot_be_computed_exactly_is_refused(checkpoint: Any, field: str, value: object, message: str) -> None:
    checkpoint.config(**{field: value})
    with pytest.raises(CheckpointError) as caught:
        config_of(checkpoint.path)
    assert message in str(caught.value)


def test_null_is_as_good_as_absent(checkpoint: Any) -> None:
    yarn = {"rope_type": None, "type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
    checkpoint.config(rope_parameters=yarn | {"beta_fast": None, "mscale": None, "attention_factor": None, "truncate": None})
    config = config_of(checkpoint.path)
    assert isinstance(config.rope_scaling, YarnScaling)
    assert (config.rope_scaling.beta_fast, config.rope_scaling.attention_factor) == (32.0, pytest.approx(1.1386294))


def test_block_longer_than_the_context(checkpoint: Any, out: Path) -> None:
    checkpoint.config(max_position_embeddings=4)
    with pytest.raises(CheckpointError, match="block_size: is 8, more than the model's 4 positions"):
        export_bundle(checkpoint.path, out)


def test_plain_rotary_positions(checkpoint: Any) -> None:
    checkpoint.config(rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    checkpoint.tie()
    config = config_of(checkpoint.path)
    assert config.rope_scaling is None
    assert config.query_scale_beta == 0
    assert config.tied


@pytest.mark.parametrize(
    ("extra", "factor"), [({}, 1.2772588), ({"mscale": 1.0, "mscale_all_dim": 0.5}, 1.1217511), ({"attention_factor": 0.7}, 0.7)]
)
def test_yarn_attention_factor(checkpoint: Any, extra: dict[str, float], factor: float) -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 16.0, "original_max_position_embeddings": 4096}
    checkpoint.config(rope_parameters=yarn | extra)
    config = config_of(checkpoint.path)
    assert isinstance(config.rope_scaling, YarnScaling)
    assert config.rope_scaling.attention_factor == pytest.approx(factor)


def test_ids_from_generation_config(checkpoint: Any) -> None:
    checkpoint.config(eos_token_id=None)
    opened = Checkpoint.open(checkpoint.path)
    with pytest.raises(CheckpointError, match="eos_token_id: is missing"):
        family_of(opened).special_tokens(opened, SpecialOverrides())
    (checkpoint.path / "generation_config.json").write_text('{"eos_token_id": [7, 9], "pad_token_id": 3}', encoding="utf-8")
    tokens = family_of(opened).special_tokens(opened, SpecialOverrides())
    assert (tokens.eos_token_ids, tokens.pad_token_id) == ((7, 9), 3)


@pytest.mark.parametrize("change", [{"mask_token_id": None}, {"mask_token_id": 11}, {"eos_token_id": "end"}, {"eos_token_id": [-1]}])
def test_bad_ids(checkpoint: Any, change: dict[str, object]) -> None:
    checkpoint.config(**change)
    opened = Checkpoint.open(checkpoint.path)
    with pytest.raises(
        CheckpointError, match=r"(config\.json: |special tokens: do not fit together: mask_token_id=11 is also an end-of-text id)"
    ):
        family_of(opened).special_tokens(opened, SpecialOverrides())
