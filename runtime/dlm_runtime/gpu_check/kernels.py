"""The kernels that can take the place of the function `dlm::ParallelUnmask`, on the shared test vectors, on a card."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from dlm_runtime.gpu_check.check import CheckFailed, Skipped

_COMPILE_PATIENCE_S, _RUN_PATIENCE_S = 300.0, 120.0
_SKIPPED = 77  # the test program's exit code where there is no card


def write_vectors(folder: Path) -> list[Path]:
    """The small test vectors, from the numpy reference."""
    generate = importlib.import_module("dlm_kernels.vectors.generate")
    case_file = importlib.import_module("dlm_kernels.vectors.case_file")
    recipes = importlib.import_module("dlm_kernels.vectors.recipes")
    for recipe in recipes.SMALL:
        case_file.write_case(folder / f"{recipe.name}.bin", generate.make_case(recipe))
    return sorted(folder.glob("*.bin"))


def triton(vectors: Sequence[Path]) -> str:
    """The Triton kernels on the first card, compared with the numpy reference."""
    for package in ("torch", "triton"):
        if find_spec(package) is None:
            raise Skipped(f"{package} is not installed: pip install 'dlm-npc[triton]'")
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise Skipped(f"torch {torch.__version__} sees no CUDA card")
    check = importlib.import_module("dlm_kernels.triton_unmask.check")
    read_case = importlib.import_module("dlm_kernels.vectors").read_case
    wrong = [f"random numbers: {found}"] if (found := check.wrong_draws("cuda")) else []
    for file in vectors:
        case = read_case(file)
        wrong += [f"{file.stem}: {found}" for found in check.differences(case, check.run_case(case, "cuda", None))]
    if wrong:
        raise CheckFailed("; ".join(wrong))
    return f"{len(vectors)} cases and the random numbers are right on {torch.cuda.get_device_name(0)}"


def cuda_core(vectors: Sequence[Path], place: Path, has_card: bool) -> str:
    """The CUDA kernels, compiled for this card with nvcc, by their own test program, which runs every case twice."""
    nvcc = shutil.which("nvcc") or _in_cuda_home()
    if nvcc is None:
        raise Skipped("nvcc is not installed (CUDA toolkit)")
    if not has_card:
        raise Skipped("there is no NVIDIA card; nvcc is there")
    program = compile_device_test(nvcc, place)
    done = subprocess.run([str(program), *map(str, vectors)], capture_output=True, text=True, timeout=_RUN_PATIENCE_S, check=False)
    if done.returncode == _SKIPPED:
        raise Skipped("the test program finds no card")
    if done.returncode:
        raise CheckFailed(f"exit code {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return f"{len(vectors)} cases are right, twice the same bits"


def compile_device_test(nvcc: str, place: Path, architecture: str = "native") -> Path:
    """The test program of kernels/cuda. Raises CheckFailed with what the compiler says."""
    sources = cuda_sources()
    program = place / ("device_test.exe" if os.name == "nt" else "device_test")
    files = [str(sources / file) for file in ("core/parallel_unmask.cu", "core/status.cpp", "tests/device_test.cpp")]
    includes = [f"-I{sources / folder}" for folder in ("include", "core", "tests")]
    options = ["-std=c++17", "-O2", "--fmad=false", f"-arch={architecture}", "-DDLM_UNMASK_WITH_CUDA", "-DDLM_UNMASK_STATIC"]
    done = subprocess.run(
        [nvcc, *options, *includes, *files, "-o", str(program)], capture_output=True, text=True, timeout=_COMPILE_PATIENCE_S, check=False
    )
    if done.returncode:
        raise CheckFailed(f"nvcc ends with code {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return program


def cuda_sources() -> Path:
    """The folder of the CUDA sources. Raises Skipped where they are not installed."""
    package = Path(importlib.import_module("dlm_kernels").__file__ or "").parent
    for folder in (package / "cuda", package.parent / "cuda"):  # in a wheel, in a checkout
        if (folder / "core").is_dir():
            return folder
    raise Skipped("the CUDA sources are not in this installation")


def _in_cuda_home() -> str | None:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if home := os.environ.get(variable):
            return shutil.which("nvcc", path=str(Path(home) / "bin"))
    return None
