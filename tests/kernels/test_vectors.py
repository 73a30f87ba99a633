"""The stored test vectors of `dlm::ParallelUnmask`: their format, that they are what the reference says, and the ONNX function on them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from dlm_kernels.unmask import parallel_unmask
from dlm_kernels.unmask.function import INPUTS as OP_INPUTS
from dlm_kernels.unmask.function import OUTPUTS as OP_OUTPUTS
from dlm_kernels.unmask.function import unmask_functions, unmask_node
from dlm_kernels.vectors import UnmaskCase, read_case, write_case
from dlm_kernels.vectors.case_file import INPUTS, OUTPUTS, TOLERANCE
from dlm_kernels.vectors.generate import make_case
from dlm_kernels.vectors.half_floats import bfloat16_bits, rounded
from dlm_kernels.vectors.recipes import SMALL, Recipe, all_masked
from dlm_kernels.vectors.separation import too_close
from onnx import TensorProto, helper

FOLDER = Path(__file__).parent / "vectors"
NAMES = [recipe.name for recipe in SMALL]
ONNX_TYPES = {"<i8": TensorProto.INT64, "<f4": TensorProto.FLOAT, "|b1": TensorProto.BOOL}


def stored(name: str) -> UnmaskCase:
    return read_case(FOLDER / f"{name}.bin")


def assert_close(ours: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Whole numbers exactly, floats as the format says."""
    tolerance = TOLERANCE if expected.dtype.kind == "f" else 0
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance, err_msg=name)


def test_stored_files_are_those_of_the_recipes_and_stay_small() -> None:
    files = list(FOLDER.glob("*.bin"))
    assert {file.stem for file in files} == set(NAMES)
    assert sum(file.stat().st_size for file in files) < 300_000


@pytest.mark.parametrize("recipe", SMALL, ids=NAMES)
def test_stored_inputs_are_generated_alike_and_answered_by_the_reference(recipe: Recipe) -> None:
    case, again = stored(recipe.name), make_case(recipe)
    assert (case.mask_token_id, case.top_k, case.logits_type) == (again.mask_token_id, again.top_k, again.logits_type)
    for field in fields(case.inputs):
        np.testing.assert_array_equal(getattr(case.inputs, field.name), getattr(again.inputs, field.name), field.name)
    found = parallel_unmask(case.inputs, mask_token_id=case.mask_token_id, top_k=case.top_k)
    for name, _, _ in OUTPUTS:
        assert_close(getattr(found, name), getattr(case.expected, name), name)


@pytest.mark.parametrize("name", NAMES)
def test_the_onnx_function_meets_them(name: str) -> None:
    case = stored(name)
    half = case.logits_type == "fp16"  # ONNX Runtime's CPU kernels know no bfloat16; those values are float32 here
    layout = (("logits", "<f4", "BWV"), *INPUTS)
    given = [helper.make_tensor_value_info(key, ONNX_TYPES[kind], list(letters)) for key, kind, letters in layout]
    if half:
        given[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    returned = [helper.make_tensor_value_info(key, ONNX_TYPES[kind], list(letters)) for key, kind, letters in OUTPUTS]
    node = unmask_node(OP_INPUTS, OP_OUTPUTS, mask_token_id=case.mask_token_id, top_k=case.top_k)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("dlm", 1)]
    graph = helper.make_graph([node], "unmask", given, returned)
    model = helper.make_model(graph, functions=unmask_functions(), opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {key: getattr(case.inputs, key) for key in OP_INPUTS}
    if half:
        feed["logits"] = feed["logits"].astype(np.float16)
    for (key, _, _), value in zip(OUTPUTS, session.run(list(OP_OUTPUTS), feed), strict=True):
        assert_close(np.asarray(value), getattr(case.expected, key), key)


@pytest.mark.parametrize("kind", ["fp32", "fp16", "bf16"])
def test_a_case_survives_writing_and_reading(kind: str, tmp_path: Path) -> None:
    case = stored(f"mixed-33-{kind}")
    write_case(tmp_path / "again.bin", case)
    assert (tmp_path / "again.bin").read_bytes() == (FOLDER / f"mixed-33-{kind}.bin").read_bytes()


def test_a_file_that_is_no_case_cut_short_or_too_long_is_refused(tmp_path: Path) -> None:
    data, path = (FOLDER / "one-row.bin").read_bytes(), tmp_path / "bad.bin"
    for content, message in (
        (b"GGUF" + data[4:], "no ParallelUnmask test case"),
        (data[:8] + bytes([9]) + data[9:], "file_format=9 .* generate the vectors anew"),
        (data[:-8], "ends after"),
        (data + bytes(8), "its header asks for"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_case(path)


def test_an_array_of_the_wrong_shape_is_not_written(tmp_path: Path) -> None:
    case = stored("one-row")
    wrong = replace(case, inputs=replace(case.inputs, quota=np.zeros(3, np.int64)))
    with pytest.raises(ValueError, match=r"quota has shape \(3,\), expected \(1,\) \(B\)"):
        write_case(tmp_path / "wrong.bin", wrong)


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -3.14159, 0.0, -np.inf], np.float32)
    assert bfloat16_bits(values).tolist() == [0x3F80, 0x3F80, 0x3F82, 0xC049, 0, 0xFF80]
    assert np.isneginf(rounded(values, "bf16")[-1])


def test_a_case_that_hangs_on_rounding_is_recognised() -> None:
    inputs = all_masked(stored("mixed-257-fp32").inputs)
    assert too_close(inputs, mask_token_id=5) in (None, "two scores", "a confidence and the threshold", "a confidence and the factor rule")
    cold = replace(inputs, temperature=inputs.temperature * 0, rank_temperature=inputs.rank_temperature * 0, factor=inputs.factor * 0)
    one = replace(cold, measure=cold.measure * 0, allow_rows=cold.allow_rows * 0, logits=np.zeros_like(cold.logits))
    assert too_close(replace(one, threshold=np.full(6, 1 / 257, np.float32)), mask_token_id=5) == "a confidence and the threshold"
    nearly = one.logits.copy()
    nearly[0, 1, 7] += np.float32(1e-6)
    assert too_close(replace(one, logits=nearly, threshold=np.full(6, 2, np.float32)), mask_token_id=5) == "two scores"
