"""A config.json that cannot be right: which field, what stands there, exit code 2, and nothing on the disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

Copy = Callable[[str], Any]
Refused = Callable[..., None]

NAN, INFINITE = float("nan"), float("inf")
NO_COUNTS: list[Any] = [0, -1, 2**31, 2**40, 10**400, True, 2.0, "2", [2], [[2]], {"a": 2}, NAN]
LAYERS = {
    "nemotron_labs_diffusion": "num_hidden_layers",
    "llada": "n_layers",
    "llada2": "num_hidden_layers",
    "llada_moe": "num_hidden_layers",
    "mdlm": "n_blocks",
    "bert": "num_hidden_layers",
    "modernbert": "num_hidden_layers",
    "diffusion_gemma": "text_config.num_hidden_layers",
}
HEADS = {
    "dream": "num_attention_heads",
    "llada": "n_heads",
    "bd3lm": "n_heads",
    "bert": "num_attention_heads",
    "modernbert": "num_attention_heads",
}
WIDTHS = {
    "sdar": "hidden_size",
    "llada": "d_model",
    "mdlm": "hidden_dim",
    "bert": "hidden_size",
    "diffusion_gemma": "text_config.hidden_size",
}


def set_field(checkpoint: Any, field: str, value: object) -> None:
    """Set a field, dots leading into sections; None removes it."""
    file = checkpoint.path / "config.json"
    fields = json.loads(file.read_text(encoding="utf-8"))
    *sections, name = field.split(".")
    at = fields
    for section in sections:
        at = at.setdefault(section, {})
    at[name] = value
    if value is None:
        del at[name]
    file.write_text(json.dumps(fields), encoding="utf-8")


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_are_no_number(golden_copy: Copy, refused: Refused, name: str) -> None:
    checkpoint = golden_copy(name)
    for value in NO_COUNTS:
        set_field(checkpoint, LAYERS[name], value)
        refused(checkpoint.path, f"config.json: {LAYERS[name]}: is ")
    set_field(checkpoint, LAYERS[name], None)
    refused(checkpoint.path, f"config.json: {LAYERS[name]}: is missing, expected a whole number from 1")


@pytest.mark.parametrize("count", [5, 10**4, 10**9, 2**31 - 1])
@pytest.mark.parametrize("name", [*(name for name in LAYERS if name != "llada_moe"), "sdar_moe"])  # which lists them in config.json
def test_more_layers_than_there_are_weights_for_are_told_at_once(golden_copy: Copy, refused: Refused, name: str, count: int) -> None:
    """Without a list of them all, which would not fit into memory."""
    checkpoint = golden_copy("sdar" if name == "sdar_moe" else name)
    if name == "sdar_moe":
        checkpoint.config(architectures=["SDARMoeForCausalLM"], num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8)
    field = LAYERS.get(name, "num_hidden_layers")
    set_field(checkpoint, field, count)
    message = "is missing; "
    if name in ("sdar_moe", "llada2") and count > 10**4:
        message = f"{field}: is {count}, expected a whole number from 1 to 10000"
    if name == "diffusion_gemma":
        set_field(checkpoint, "text_config.layer_types", None)
        message = "config.json asks for" if count == 5 else f"{field}: is {count}, but there are only "
    start = time.monotonic()
    refused(checkpoint.path, message)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", WIDTHS)
def test_widths_that_are_no_number(golden_copy: Copy, refused: Refused, name: str) -> None:
    checkpoint = golden_copy(name)
    for value in NO_COUNTS:
        set_field(checkpoint, WIDTHS[name], value)
        refused(checkpoint.path, f"config.json: {WIDTHS[name]}: is ")


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("value", [5, 7, 1000])
def test_heads_that_do_not_divide(golden_copy: Copy, refused: Refused, name: str, value: int) -> None:
    checkpoint = golden_copy(name)
    set_field(checkpoint, HEADS[name], value)
    refused(checkpoint.path, "config.json: ")


@pytest.mark.parametrize("name", ["nemotron_labs_diffusion", "sdar", "llada2", "dream", "fast_dllm_v2", "a2d_qwen3"])
def test_key_heads_that_do_not_divide(golden_copy: Copy, refused: Refused, name: str) -> None:
    checkpoint = golden_copy(name)
    for value in (3, 5, 8):
        set_field(checkpoint, "num_key_value_heads", value)
        refused(checkpoint.path, "config.json: sizes: do not fit together: heads=4 is not a multiple of kv_heads=")


@pytest.mark.parametrize("name", ["llada", "llada2", "mdlm", "bert", "dream"])
def test_vocabularies_that_cannot_be(golden_copy: Copy, refused: Refused, name: str) -> None:
    checkpoint = golden_copy(name)
    for value in (0, 1, -5, 2**40, 10**300, True, 256.0, "256"):
        set_field(checkpoint, "vocab_size", value)
        refused(checkpoint.path, "config.json: vocab_size: is ", "expected a whole number from 2 to 2147483647")
    for value in (2, 100, 2**31 - 1):
        set_field(checkpoint, "vocab_size", value)
        set_field(checkpoint, "embedding_size", None)
        refused(checkpoint.path)


THETAS = {
    "dream": "rope_theta",
    "llada": "rope_theta",
    "llada_moe": "rope_theta",
    "nemotron_labs_diffusion": "rope_parameters.rope_theta",
    "modernbert": "global_rope_theta",
    "diffusion_gemma": "text_config.rope_parameters.full_attention.rope_theta",
}


@pytest.mark.parametrize("name", THETAS)
@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE, 0, -1e4, True, "10000", [1e4], 10**400], ids=lambda value: str(value)[:8])
def test_rotary_bases_that_cannot_be(golden_copy: Copy, refused: Refused, name: str, value: object) -> None:
    checkpoint = golden_copy(name)
    set_field(checkpoint, THETAS[name], value)
    refused(checkpoint.path, f"config.json: {THETAS[name]}: is ", "expected a number")


EPSILONS = {"llada": "rms_norm_eps", "sdar": "rms_norm_eps", "bert": "layer_norm_eps", "modernbert": "norm_eps"}


@pytest.mark.parametrize("name", EPSILONS)
def test_epsilons_that_cannot_be(golden_copy: Copy, refused: Refused, name: str) -> None:
    checkpoint = golden_copy(name)
    for value in (NAN, INFINITE, 0, -1e-5, True, "1e-5", [1e-5]):
        set_field(checkpoint, EPSILONS[name], value)
        refused(checkpoint.path, f"config.json: {EPSILONS[name]}: is ", "expected a number")


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("llada2", "num_experts_per_tok", 9, "num_experts: does not fit: experts: per_token=9 exceeds the experts that stand for election"),
        ("llada2", "num_experts_per_tok", 5, "per_token=5 exceeds the experts that stand for election"),  # in one group of two
        ("llada2", "num_experts_per_tok", 0, "num_experts_per_tok: is 0"),
        ("llada2", "num_experts", 0, "num_experts: is 0"),
        ("llada2", "n_group", 3, "count=8 is not a multiple of groups=3"),
        ("llada2", "topk_group", 3, "top_groups=3 exceeds groups=2"),
        ("llada2", "routed_scaling_factor", NAN, "routed_scaling_factor: is nan"),
        ("llada2", "score_function", "softmax", "score_function: is 'softmax', only 'sigmoid' can be exported"),
        ("llada2", "first_k_dense_replace", -1, "first_k_dense_replace: is -1"),
        ("llada2", "partial_rotary_factor", 1.5, "partial_rotary_factor: is 1.5, expected at most 1"),
        ("llada2", "partial_rotary_factor", 0.01, "rotary embedding turns 0 of head_dim=16"),
        ("llada2", "partial_rotary_factor", NAN, "partial_rotary_factor: is nan"),
        ("llada2", "head_dim", 15, "sizes: do not fit together: rotary embedding turns 7 of head_dim=15"),
        ("llada_moe", "num_experts_per_tok", 7, "per_token=7 exceeds the experts that stand for election"),
        ("llada_moe", "moe_layer_freq", None, "moe_layer_freq: is missing, expected a list of 0 or 1 for each of 2 layers"),
        ("llada_moe", "moe_layer_freq", 1, "moe_layer_freq: is 1, expected a list"),
        ("llada_moe", "moe_layer_freq", [1], "moe_layer_freq: is [1], expected a list"),
        ("llada_moe", "moe_layer_freq", [1, 1, 1], "moe_layer_freq: is [1, 1, 1], expected a list"),
        ("llada_moe", "moe_layer_freq", ["1", "1"], "moe_layer_freq: is ['1', '1'], expected a list"),
        ("llada_moe", "moe_layer_freq", ["0", "1"], "moe_layer_freq: is ['0', '1'], expected a list"),
        ("llada_moe", "moe_layer_freq", [1, True], "moe_layer_freq: is [1, True], expected a list"),
        ("llada_moe", "moe_layer_freq", [1, 2], "moe_layer_freq: is [1, 2], expected a list"),
        ("llada_moe", "moe_layer_freq", [[1], [1]], "moe_layer_freq: is [[1], [1]], expected a list"),
        ("llada_moe", "moe_layer_freq", {"0": 1, "1": 1}, "moe_layer_freq: is {'0': 1, '1': 1}, expected a list"),
        ("llada_moe", "moe_layer_freq", "11", "moe_layer_freq: is '11', expected a list"),
        ("diffusion_gemma", "text_config.top_k_experts", 5, "text_config.sizes: do not fit together"),
        ("diffusion_gemma", "text_config.layer_types", 3, "text_config.layer_types: has to name full_attention or sliding_attention"),
        ("diffusion_gemma", "text_config.layer_types", [["full_attention"]] * 3, "text_config.layer_types: has to name"),
        ("diffusion_gemma", "text_config.layer_types", ["full_attention"], "text_config.layer_types: has to name"),
        ("diffusion_gemma", "text_config", None, "text_config: is missing"),
        ("diffusion_gemma", "text_config", [], "text_config: is [], expected an object"),
        ("diffusion_gemma", "text_config.num_key_value_heads", 3, "text_config.sizes: do not fit together"),
        ("diffusion_gemma", "text_config.num_global_key_value_heads", 3, "text_config.sizes: do not fit together"),
        ("diffusion_gemma", "canvas_length", 0, "canvas_length: is 0"),
        ("diffusion_gemma", "canvas_length", 10**6, "canvas_length: is 1000000, more than"),
        ("modernbert", "layer_types", "full_attention", "layer_types: has to name full_attention or sliding_attention"),
        ("modernbert", "layer_types", [{}] * 4, "layer_types: has to name"),
        ("modernbert", "layer_types", ["full_attention"] * 3, "layer_types: has to name"),
        ("modernbert", "hidden_activation", ["gelu"], "hidden_activation: is ['gelu']"),
        ("modernbert", "hidden_activation", "tanhshrink", "hidden_activation: is 'tanhshrink'"),
        ("bert", "hidden_act", 3, "hidden_act: is 3"),
        ("bert", "position_embedding_type", "relative_key", "position_embedding_type: is 'relative_key'"),
        ("bert", "is_decoder", True, "is_decoder: is True"),
        ("sdar", "layer_types", "full_attention", "layer_types: is 'full_attention', expected a list"),
        ("sdar", "layer_types", 3, "layer_types: is 3, expected a list"),
        ("sdar", "layer_types", True, "layer_types: is True, expected a list"),
        ("sdar", "layer_types", {"0": "full_attention"}, "layer_types: is {'0': 'full_attention'}, expected a list"),
        ("sdar", "layer_types", [["full_attention"]], "layer_types: is [['full_attention']], only full attention"),
        ("sdar", "layer_types", ["full_attention", "sliding_attention"], "only full attention can be exported"),
        ("dream", "attn_type_list", 0.5, "attn_type_list: is 0.5, expected a list"),
        ("fast_dllm_v2", "bd_size", 0, "bd_size: is 0"),
        ("fast_dllm_v2", "bd_size", [8], "bd_size: is [8]"),
        ("sdar", "block_size", 2.5, "block_size: is 2.5"),
        ("sdar", "block_size", 2**20, "block_size: is 1048576, more than the model's 512 positions"),
        ("sdar", "use_sliding_window", True, "use_sliding_window: is True"),
        ("sdar", "attention_bias", "no", "attention_bias: is 'no', expected true or false"),
        ("sdar", "max_position_embeddings", 0, "max_position_embeddings: is 0"),
        ("sdar", "max_position_embeddings", [[512]], "max_position_embeddings: is [[512]]"),
        ("sdar", "rope_scaling", [], "rope_scaling: is [], expected an object"),
        ("sdar", "rope_scaling", {"type": ["yarn"]}, "rope_scaling.type: is ['yarn']"),
        ("sdar", "rope_scaling", {"type": "yarn", "factor": NAN}, "rope_scaling.factor: is nan"),
        ("sdar", "rope_scaling", {"rope_type": "llama3", "factor": 8}, "rope_scaling.low_freq_factor: is missing"),
        ("sdar", "quantization_config", {"bits": 4}, "quantization_config: is {'bits': 4}"),
        ("llada", "block_type", "sequential", "block_type: is 'sequential', only 'llama' can be exported"),
        ("llada", "rope", False, "rope: is False"),
        ("llada", "alibi", True, "alibi: is True"),
        ("llada", "include_bias", [], "include_bias: is []"),
        ("llada", "multi_query_attention", 1, "multi_query_attention: is 1, expected true or false"),
        ("mdlm", "time_conditioning", True, "time_conditioning: is True"),
        ("mdlm", "model_length", 1, "model_length: is 1"),
        ("bd3lm", "block_size", 33, "block_size: is 33, more than model_length=32"),
        ("bd3lm", "cross_attn", False, "cross_attn: is False"),
        ("bert", "eos_token_id", "end", "eos_token_id: is 'end', expected token ids"),
        ("llada", "mask_token_id", [[250]], "mask_token_id: is [[250]], expected token ids"),
        ("llada", "mask_token_id", [250, 251], "mask_token_id: is [250, 251], expected one token id"),
        ("llada", "eos_token_id", 2**40, "eos_token_id: is 1099511627776, expected token ids"),
        ("llada", "eos_token_id", 256, "eos_token_id: is 256, which is not an id of this model"),
        ("llada", "eos_token_id", True, "eos_token_id: is True, expected token ids"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be(golden_copy: Copy, refused: Refused, name: str, field: str, value: object, message: str) -> None:
    checkpoint = golden_copy(name)
    set_field(checkpoint, field, value)
    refused(checkpoint.path, "config.json: ", message)


@pytest.mark.parametrize("layers", ["1", 1, {"0": 1}, [[1]], ["1"], [True], [0.0]])
def test_dense_layers_that_are_no_list(golden_copy: Copy, refused: Refused, layers: object) -> None:
    checkpoint = golden_copy("sdar")
    checkpoint.redraw(architectures=["SDARMoeForCausalLM"], num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8)
    set_field(checkpoint, "mlp_only_layers", layers)
    refused(checkpoint.path, "config.json: mlp_only_layers: is ", "expected a list")


@pytest.mark.parametrize("name", ["llada", "modernbert", "mdlm"])
@pytest.mark.parametrize("value", [None, [], {}, "LLaDAModelLM", 3, [None], [3], [["LLaDAModelLM"]], [{}], True])
def test_architectures_that_are_no_list_of_names(golden_copy: Copy, refused: Refused, name: str, value: object) -> None:
    checkpoint = golden_copy(name)
    set_field(checkpoint, "architectures", value)
    refused(checkpoint.path, "config.json: architectures: is ", "It must list the model's class name first")


@pytest.mark.parametrize("name", ["nemotron_labs_diffusion", "llada2", "bert", "diffusion_gemma"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not readable JSON"),
        (b"   ", "is not readable JSON"),
        (b"{", "is not readable JSON"),
        (b"[]", "holds a JSON list, not an object"),
        (b"null", "holds a JSON NoneType, not an object"),
        (b"3", "holds a JSON int, not an object"),
        (b'"config"', "holds a JSON str, not an object"),
        (b"{}", "architectures: is missing"),
        (b'\xef\xbb\xbf{"architectures": []}', "is not readable JSON"),
        (b"\xff\xfe{\x00}\x00", "is not readable JSON"),
        (b'{"a": \xff}', "is not readable JSON"),
        (b"\x00" * 100, "is not readable JSON"),
        (b"[" * 10**6, "is not readable JSON"),
        (b'{"a":' * 10**6, "is not readable JSON"),
        (b'{"vocab_size": ' + b"9" * 5000 + b"}", "is not readable JSON"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_is_no_config(golden_copy: Copy, refused: Refused, name: str, data: bytes, message: str) -> None:
    checkpoint = golden_copy(name)
    (checkpoint.path / "config.json").write_bytes(data)
    refused(checkpoint.path, "config.json: ", message)


def test_a_hundred_megabytes_of_brackets(checkpoint: Any, refused: Refused) -> None:
    (checkpoint.path / "config.json").write_bytes(b'{"a":[' * 17_000_000)
    refused(checkpoint.path, "config.json: is not readable JSON")


@pytest.mark.parametrize("depth", [100, 500, 800, 900])
@pytest.mark.parametrize("field", ["architectures", "num_hidden_layers", "layer_types", "rope_scaling", "eos_token_id", "hidden_act"])
def test_lists_in_lists(golden_copy: Copy, refused: Refused, field: str, depth: int) -> None:
    """As deep as the JSON reader goes and beyond, and quoted in a message that stays short."""
    checkpoint = golden_copy("sdar")
    fields = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8")) | {field: "HERE"}
    text = json.dumps(fields).replace('"HERE"', "[" * depth + "]" * depth)
    (checkpoint.path / "config.json").write_text(text, encoding="utf-8")
    refused(checkpoint.path, "config.json: ")
