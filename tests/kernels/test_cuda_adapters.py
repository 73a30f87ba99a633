"""The CUDA core's adapters. They need headers that no wheel carries, so they are built only where the environment says where those lie:

ORT_ROOT       an unpacked ONNX Runtime release, for the CPU custom op
TENSORRT_ROOT  TensorRT or TensorRT for RTX, for the plugin; it is also loaded where tensorrt_rtx is installed
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from dlm_kernels.unmask.function import INPUTS, OUTPUTS
from dlm_kernels.vectors import read_case
from dlm_kernels.vectors.case_file import TOLERANCE
from onnx import TensorProto

SOURCES = Path(__file__).parents[2] / "kernels" / "cuda"
VECTORS = Path(__file__).parent / "vectors"
COMPARED = {
    "mixed-257-fp32": TensorProto.FLOAT,
    "mixed-257-fp16": TensorProto.FLOAT16,
    "mixed-257-bf16": TensorProto.BFLOAT16,
    "factors": TensorProto.FLOAT,
    "all-banned": TensorProto.FLOAT,
    "position-ties": TensorProto.FLOAT,
}
Models = Callable[..., onnx.ModelProto]

BUILD_ENGINE = """
import sys
import tensorrt_rtx as trt

logger = trt.Logger(trt.Logger.ERROR)
assert trt.get_plugin_registry().load_library(sys.argv[1]) is not None
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, logger)
assert parser.parse_from_file(sys.argv[2]), [parser.get_error(i).desc() for i in range(parser.num_errors)]
kinds = [str(network.get_layer(i).type) for i in range(network.num_layers)]
assert kinds.count("LayerType.PLUGIN_V3") == 1, kinds
config = builder.create_builder_config()
profile = builder.create_optimization_profile()
sizes = {"B": (1, 2, 4), "W": (8, 8, 8), "V": (300, 300, 300), "G": (1, 2, 3)}
for i in range(network.num_inputs):
    tensor = network.get_input(i)
    letters = [tensor.get_dimension_name(axis) for axis in range(len(tensor.shape))]
    profile.set_shape(tensor.name, *[[sizes[letter][place] for letter in letters] for place in range(3)])
config.add_optimization_profile(profile)
assert builder.build_serialized_network(network, config) is not None
"""


def root(variable: str) -> Path:
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} is not set")
    return Path(folder)


def cmake_build(folder: Path, target: str, *options: str) -> Path:
    """The library that `target` makes."""
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    for command in (["-S", str(SOURCES), "-B", str(folder), "-DDLM_TESTS=OFF", *options], ["--build", str(folder), "--target", target]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
    return next(path for path in folder.rglob(f"*{target}*") if path.suffix in {".so", ".dll", ".dylib"})


@pytest.fixture(scope="module")
def custom_op(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ("-DDLM_CUDA=OFF", f"-DORT_ROOT={root('ORT_ROOT')}")
    return cmake_build(tmp_path_factory.mktemp("ort"), "dlm_unmask_onnxruntime", *options)


def session(model: onnx.ModelProto, library: Path | None, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if library is not None:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", COMPARED)
def test_custom_op_meets_the_vectors(name: str, custom_op: Path, decision_model: Models) -> None:
    case = read_case(VECTORS / f"{name}.bin")
    feed = {field.name: getattr(case.inputs, field.name) for field in fields(case.inputs)}
    model = decision_model(shape=False, unmask=True, top_k=case.top_k, kind=COMPARED[name])
    found = session(model, custom_op, threads=2).run(list(OUTPUTS), feed)
    for output, ours in zip(OUTPUTS, found, strict=True):
        expected = getattr(case.expected, output)
        tolerance = TOLERANCE if expected.dtype.kind == "f" else 0
        np.testing.assert_allclose(np.asarray(ours), expected, rtol=tolerance, atol=tolerance, err_msg=output)


def test_custom_op_takes_the_place_of_the_function(custom_op: Path, decision_model: Models) -> None:
    """Seen by what only the op refuses."""
    model = decision_model(shape=False, unmask=True, top_k=33)
    session(model, None)
    with pytest.raises(Exception, match="top_k is not between 1 and 32"):
        session(model, custom_op)


@pytest.mark.slow
def test_plugin_compiles_and_tensorrt_for_rtx_builds_an_engine_with_it(tmp_path: Path, decision_model: Models) -> None:
    options = (f"-DTENSORRT_ROOT={root('TENSORRT_ROOT')}", "-DCMAKE_CUDA_ARCHITECTURES=89")
    library = cmake_build(tmp_path / "plugin", "dlm_unmask_tensorrt", *options)
    libraries = importlib.util.find_spec("tensorrt_rtx_libs")
    if libraries is None or libraries.origin is None:
        pytest.skip("compiled, but tensorrt_rtx is not installed to load it")
    (tmp_path / "link").mkdir()  # the parser opens a name that the wheel lacks
    (tmp_path / "link" / "libtensorrt_rtx.so").symlink_to(next(Path(libraries.origin).parent.glob("libtensorrt_rtx.so.*")))
    model = decision_model(shape=False, unmask=True)
    assert {value.name for value in model.graph.input} == set(INPUTS)
    onnx.save(model, tmp_path / "model.onnx")
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path / "link")}
    command = [sys.executable, "-c", BUILD_ENGINE, str(library), str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
