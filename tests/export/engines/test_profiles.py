"""Profiles cover the shapes that the runtime asks for, and speak of every input of every graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from dlm_export.engines.engine_options import EngineLimits
from dlm_export.engines.errors import EngineError
from dlm_export.engines.profiles import Profile, block_profiles, step_profiles
from dlm_export.graph.block import build_block
from onnx import ModelProto, TensorProto, helper

LIMITS = EngineLimits(max_batch=8, max_context=2048, max_prefill=512, block_length=32)


def model_with(*dimensions: int | str) -> ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.INT64, list(dimensions))
    return helper.make_model(helper.make_graph([], "g", [value], []))


def test_three_kinds_of_work() -> None:
    prefill, denoise, single = step_profiles(LIMITS)
    assert [profile.name for profile in (prefill, denoise, single)] == ["prefill", "denoise", "autoregression"]
    assert prefill.dimensions["L"] == (1, 128, 512)
    assert denoise.dimensions["L"] == denoise.dimensions["W"] == (1, 32, 64)
    assert single.dimensions["L"] == single.dimensions["W"] == (1, 1, 1)
    for profile in (prefill, denoise, single):
        assert profile.dimensions["B"][2] == 8
        assert profile.dimensions["P"] == (0, 1023, 2047)
        assert profile.dimensions["R"][0] == 0


def test_without_a_cache_denoising_runs_the_whole_context() -> None:
    whole = EngineLimits(max_batch=1, max_context=2048, max_prefill=2048, block_length=32)
    assert step_profiles(whole)[1].dimensions["L"] == (1, 32, 2048)


@pytest.mark.parametrize(
    "limits", [EngineLimits(1, 2, 1, 1), EngineLimits(1, 2, 2, 2), EngineLimits(3, 5, 4, 4), EngineLimits(64, 9, 9, 1)]
)
def test_small_limits(limits: EngineLimits) -> None:
    for profile in (*step_profiles(limits), *block_profiles(limits)):
        assert profile.dimensions["L"][2] <= limits.max_context
        assert profile.dimensions["W"][2] <= profile.dimensions["L"][2]


def test_shapes_and_what_is_recorded() -> None:
    profile = Profile("small", {"B": (1, 2, 4), "P": (0, 3, 9), "Z": (1, 1, 1)})
    model = model_with("B", 2, "P", 16)
    assert profile.shapes(model) == {"x": [[1, 2, 0, 16], [2, 2, 3, 16], [4, 2, 9, 16]]}
    assert profile.recorded(model).dimensions == {"B": (1, 2, 4), "P": (0, 3, 9)}


def test_an_unknown_dimension_is_named() -> None:
    with pytest.raises(EngineError, match="input 'x' has a dimension 'Q', for which no profile says how large it may be"):
        step_profiles(LIMITS)[0].shapes(model_with("B", "Q"))


def test_sizes_rise() -> None:
    with pytest.raises(ValueError, match=r"odd: B=\(2, 1, 4\) do not rise"):
        Profile("odd", {"B": (2, 1, 4)})


def test_every_input_of_every_family(member: Any, members: Callable[[str], Any]) -> None:
    model = onnx.load(member.bundle / "model.onnx", load_external_data=False)
    for profile in step_profiles(LIMITS):
        assert profile.shapes(model).keys() == {value.name for value in model.graph.input}
    if not member.name.startswith("diffusion_gemma"):
        block = build_block(model)
        assert block_profiles(LIMITS)[0].shapes(block).keys() == {value.name for value in block.graph.input}
