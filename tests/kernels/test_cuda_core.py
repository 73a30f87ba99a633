"""The CUDA core of `dlm::ParallelUnmask` without a GPU: its host twin, its kernels run thread by thread on the CPU, and nvcc on them."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlm_kernels.unmask import UnmaskInputs, UnmaskOutputs, parallel_unmask
from dlm_kernels.unmask.draws import uniform
from dlm_kernels.vectors import UnmaskCase, read_case
from dlm_kernels.vectors.case_file import TOLERANCE
from dlm_kernels.vectors.generate import make_case
from dlm_kernels.vectors.half_floats import LOGITS_TYPES, LogitsType, raw_logits, rounded
from dlm_kernels.vectors.recipes import BEYOND_THE_SPECIFICATION, LARGE, Recipe

SOURCES = Path(__file__).parents[2] / "kernels" / "cuda"
VECTORS = Path(__file__).parent / "vectors"
COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror", "-ffp-contract=off", "-fno-trapping-math"]
INCLUDES = [f"-I{SOURCES / folder}" for folder in ("include", "core", "tests")]
ARCHITECTURES = (80, 86, 89, 90, 120)
MASK = 5

POINTERS = (*(field.name for field in fields(UnmaskInputs)), *(field.name for field in fields(UnmaskOutputs)), "workspace")
COUNTS = ("rows", "window", "vocab", "allow_rows_count", "mask_token_id")
Answer = Callable[..., UnmaskOutputs]


class Params(ctypes.Structure):
    """`DlmUnmaskParams`; the pointers stand in the op's order."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        *((name, ctypes.c_int64) for name in COUNTS),
        ("top_k", ctypes.c_int32),
        ("logits_type", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in POINTERS),
        ("workspace_bytes", ctypes.c_size_t),
    )


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compile_cpp(out: Path, *options: str, sources: tuple[str, ...]) -> Path:
    if COMPILER is None:
        pytest.skip("no C++ compiler (c++, g++ or clang++)")
    run(COMPILER, *FLAGS, *options, *INCLUDES, *(SOURCES / source for source in sources), "-o", out)
    return out


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    sources = ("core/host.cpp", "core/host_measure.cpp", "core/status.cpp")
    library = ctypes.CDLL(str(compile_cpp(tmp_path_factory.mktemp("twin") / "twin.so", "-O2", "-shared", "-fPIC", sources=sources)))
    library.dlm_parallel_unmask_workspace_bytes.restype = ctypes.c_size_t
    library.dlm_parallel_unmask_workspace_bytes.argtypes = [ctypes.c_int64, ctypes.c_int64]
    library.dlm_parallel_unmask_status_text.restype = ctypes.c_char_p
    return library


def filled(inputs: UnmaskInputs, top_k: int, logits_type: LogitsType, library: ctypes.CDLL) -> tuple[Params, dict[str, np.ndarray]]:
    """Parameters, and the arrays they point to; those must live on."""
    rows, window, vocab = inputs.logits.shape
    arrays = {field.name: np.ascontiguousarray(getattr(inputs, field.name)) for field in fields(UnmaskInputs)}
    arrays["logits"] = raw_logits(inputs.logits, logits_type)
    outputs = {name: np.empty((rows, window), np.int64) for name in ("canvas", "sampled_ids")}
    outputs |= {name: np.empty((rows, window), np.float32) for name in ("confidence", "entropy")}
    outputs["committed"] = np.empty(rows, np.int64)
    outputs |= {"top_ids": np.empty((rows, window, top_k), np.int64), "top_logprobs": np.empty((rows, window, top_k), np.float32)}
    size = library.dlm_parallel_unmask_workspace_bytes(rows, window)
    arrays |= outputs | {"workspace": np.empty(size, np.uint8)}
    code = LOGITS_TYPES.index(logits_type)
    params = Params(ctypes.sizeof(Params), rows, window, vocab, len(inputs.allow_table), MASK, top_k, code, workspace_bytes=size)
    for name in POINTERS:
        setattr(params, name, arrays[name].ctypes.data)
    return params, arrays


@pytest.fixture(scope="session")
def answer(twin: ctypes.CDLL) -> Answer:
    def ask(inputs: UnmaskInputs, top_k: int = 4, logits_type: LogitsType = "fp32") -> UnmaskOutputs:
        params, arrays = filled(inputs, top_k, logits_type, twin)
        status = twin.dlm_parallel_unmask_host(ctypes.byref(params))
        assert status == 0, twin.dlm_parallel_unmask_status_text(status)
        return UnmaskOutputs(**{field.name: arrays[field.name] for field in fields(UnmaskOutputs)})

    return ask


def assert_same(found: UnmaskOutputs, expected: UnmaskOutputs) -> None:
    for field in fields(UnmaskOutputs):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        tolerance = TOLERANCE if theirs.dtype.kind == "f" else 0
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=field.name)


def assert_meets(case: UnmaskCase, answer: Answer) -> None:
    assert_same(answer(case.inputs, case.top_k, case.logits_type), case.expected)


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.bin")), ids=lambda path: path.stem)
def test_host_twin_meets_the_stored_vectors(path: Path, answer: Answer) -> None:
    assert_meets(read_case(path), answer)


@pytest.mark.parametrize("recipe", BEYOND_THE_SPECIFICATION, ids=lambda recipe: recipe.name)
def test_host_twin_takes_infinite_logits(recipe: Recipe, answer: Answer) -> None:
    case = make_case(recipe)
    assert np.isneginf(case.inputs.logits).any()
    assert_meets(case, answer)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", LARGE, ids=lambda recipe: recipe.name)
def test_host_twin_meets_vectors_of_large_vocabularies(recipe: Recipe, answer: Answer) -> None:
    assert_meets(make_case(recipe), answer)


def random_inputs(seed: int, rows: int, window: int, vocab: int) -> UnmaskInputs:
    rng = np.random.default_rng(seed)
    shape = (rows, window)
    table = np.where(rng.random((3, vocab)) < 0.3, -np.inf, rng.normal(0, 1, (3, vocab))).astype(np.float32)
    table[:, 0] = 0
    kinds: dict[str, Any] = {
        "quota": rng.integers(0, window, rows),
        "threshold": rng.random(rows).astype(np.float32),
        "factor": rng.uniform(0, 2, rows).astype(np.float32),
        "measure": rng.integers(0, 3, rows),
        "temperature": (rng.uniform(0, 2, rows) * (rng.random(rows) < 0.6)).astype(np.float32),
        "rank_temperature": (rng.random(rows) * (rng.random(rows) < 0.5)).astype(np.float32),
        "seed": rng.integers(-(2**63), 2**63 - 1, rows),
        "step": rng.integers(0, 500, rows),
    }
    return UnmaskInputs(
        logits=rng.normal(0, 4, (*shape, vocab)).astype(np.float32),
        tokens=np.where(rng.random(shape) < 0.7, MASK, 0),
        live=rng.random(shape) < 0.9,
        positions=rng.integers(0, 100_000, shape),
        allow_rows=rng.integers(-3, 3, shape),
        allow_table=table,
        **kinds,
    )


@pytest.mark.parametrize("logits_type", LOGITS_TYPES)
@pytest.mark.parametrize(("rows", "window", "vocab"), [(16, 8, 64), (9, 33, 65), (12, 1, 1000), (3, 5, 4099)])
def test_host_twin_agrees_with_the_reference_on_random_inputs(
    rows: int, window: int, vocab: int, logits_type: LogitsType, answer: Answer
) -> None:
    inputs = random_inputs(rows * vocab, rows, window, vocab)
    inputs = replace(inputs, logits=rounded(inputs.logits, logits_type))
    for top_k in (1, 8, 32):
        assert_same(answer(inputs, top_k, logits_type), parallel_unmask(inputs, mask_token_id=MASK, top_k=top_k))


def test_draws_are_bit_for_bit_those_of_the_reference(answer: Answer) -> None:
    """On equal logits the token drawn is the one with the largest uniform number, ties included; no rounding comes between."""
    rows, window, vocab = 9, 40, 3001
    seeds = np.array([0, 1, -1, 2**31 - 1, 2**32, 2**62, -(2**62), 2**63 - 1, -(2**63)])
    inputs = replace(
        random_inputs(1, rows, window, vocab),
        logits=np.zeros((rows, window, vocab), np.float32),
        allow_table=np.zeros((3, vocab), np.float32),
        temperature=np.ones(rows, np.float32),
        seed=seeds,
        positions=np.broadcast_to(np.arange(window) * 2**40, (rows, window)).copy(),
    )
    drawn = uniform(inputs.seed, inputs.step, inputs.positions, vocab).argmax(-1)
    np.testing.assert_array_equal(answer(inputs).sampled_ids, drawn)


def test_logits_of_nan_stay_in_bounds(answer: Answer) -> None:
    """The numbers mean nothing then, but ids must be ids."""
    inputs = random_inputs(2, 4, 6, 70)
    outputs = answer(replace(inputs, logits=np.full_like(inputs.logits, np.nan)), top_k=8)
    for ids in (outputs.sampled_ids, outputs.top_ids):
        assert ((ids >= 0) & (ids < 70)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 33}, "top_k is not between 1 and the vocabulary's size, at most 32"),
        ({"top_k": 0}, "top_k is not between 1"),
        ({"logits_type": 3}, "logits_type is none of DlmLogitsType"),
        ({"vocab": 0}, "rows, window, vocab or allow_rows_count is out of range"),
        ({"struct_size": 8}, "struct_size differs"),
        ({"seed": None}, "a pointer is null"),
        ({"workspace_bytes": 1}, "workspace_bytes is below"),
        ({"allow_rows_count": 1}, "an element of allow_rows is no row of allow_table"),
    ],
)
def test_host_twin_refuses_bad_parameters_with_a_reason(change: dict[str, Any], message: str, twin: ctypes.CDLL) -> None:
    params, arrays = filled(random_inputs(3, 4, 6, 70), 4, "fp32", twin)
    arrays["canvas"][:] = -7
    for name, value in change.items():
        setattr(params, name, value)
    status = twin.dlm_parallel_unmask_host(ctypes.byref(params))
    assert message in twin.dlm_parallel_unmask_status_text(status).decode()
    assert (arrays["canvas"] == -7).all()


def test_the_test_program_reads_the_vectors(tmp_path: Path) -> None:
    sources = ("tests/host_test.cpp", "core/host.cpp", "core/host_measure.cpp", "core/status.cpp")
    program = compile_cpp(tmp_path / "host_test", "-O1", sources=sources)
    files = sorted(VECTORS.glob("*.bin"))
    assert f"{len(files)} cases, 0 failed" in run(program, *files)


def emulated(folder: Path) -> Path:
    if not Path("/usr/include/ucontext.h").exists():
        pytest.skip("no ucontext.h, with which the kernels' threads are emulated")
    return compile_cpp(folder / "emulated", "-O1", sources=("tests/emulated_test.cpp", "core/status.cpp"))


def test_kernels_run_thread_by_thread_on_the_cpu(tmp_path: Path) -> None:
    """Shuffles that all lanes reach, aligned loads, each logit read once, ties that do not depend on a row's address."""
    names = ("position-ties", "mixed-33-bf16", "one-token", "top-5-of-6", "two-tokens", "few-allowed", "wide-window")
    files = [VECTORS / f"{name}.bin" for name in names]
    assert f"{len(files)} cases, 0 failed" in run(emulated(tmp_path), 64, *files)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [32, 128, 512])
def test_kernels_run_with_every_size_of_block(threads: int, tmp_path: Path) -> None:
    files = sorted(VECTORS.glob("mixed-257*.bin"))
    assert "3 cases, 0 failed" in run(emulated(tmp_path), threads, *files)


@pytest.mark.slow
def test_nvcc_compiles_the_kernels_for_every_architecture(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    codes = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
    options = ["-std=c++17", "-O3", "--fmad=false", "-DDLM_UNMASK_WITH_CUDA", *INCLUDES, "-gencode=arch=compute_80,code=compute_80"]
    folder = tmp_path / "kept"
    folder.mkdir()
    run(nvcc, *options, *codes, "--keep", "--keep-dir", folder, "-c", SOURCES / "core/parallel_unmask.cu", "-o", tmp_path / "unmask.o")
    cubins = {int(found[1]) for found in (re.search(r"_(\d+)\.cubin$", file.name) for file in folder.iterdir()) if found}
    assert cubins == set(ARCHITECTURES)
    assert (tmp_path / "unmask.o").stat().st_size > sum(file.stat().st_size for file in folder.glob("*.cubin")) / 2
