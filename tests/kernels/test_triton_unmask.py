"""The Triton kernels in Triton's interpreter against the test vectors, and what the launcher refuses.

The interpreter has to be chosen before triton is imported, and then nothing can be compiled: hence processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dlm_kernels.vectors import write_case
from dlm_kernels.vectors.generate import make_case
from dlm_kernels.vectors.recipes import BEYOND_THE_SPECIFICATION, LARGE, SMALL, Recipe

pytest.importorskip("triton", reason="Triton is not installed (Linux: pip install 'dlm-npc[triton]')")

VECTORS = Path(__file__).parent / "vectors"
SMALL_BLOCK, LARGE_BLOCK = "128", "16384"  # so that 257 tokens and more are read in several blocks
SECONDS = 300


def start_check(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dlm_kernels.triton_unmask.check", *map(str, arguments)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def results(check: subprocess.Popen[str]) -> dict[str, str]:
    """What was printed for each case; an error of the process fails the test that asks."""
    output, errors = check.communicate(timeout=SECONDS)
    assert check.returncode in (0, 1), errors
    lines = dict(line.split(": ", 1) for line in output.splitlines())
    return lines or {"no output": errors}


def write_recipes(folder: Path, recipes: tuple[Recipe, ...]) -> Path:
    for recipe in recipes:
        write_case(folder / f"{recipe.name}.bin", make_case(recipe))
    return folder


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Result by case. Two processes side by side: one for the small cases, one for real vocabularies and many blocks."""
    large = write_recipes(tmp_path_factory.mktemp("large"), LARGE + BEYOND_THE_SPECIFICATION)
    altered = bytearray((VECTORS / "one-row.bin").read_bytes())
    altered[-1] ^= 0x40  # the last reported log probability
    (large / "altered.bin").write_bytes(altered)
    small_check = start_check(VECTORS, "--block-tokens", SMALL_BLOCK)
    large_check = start_check(large, "--block-tokens", LARGE_BLOCK)
    return results(large_check) | results(small_check)


CASES = [recipe.name for recipe in SMALL + LARGE + BEYOND_THE_SPECIFICATION]


@pytest.mark.parametrize("name", ["random numbers", *CASES])
def test_the_kernels_give_what_the_reference_gives(name: str, checked: dict[str, str]) -> None:
    assert checked[name] == "ok"


def test_a_wrong_answer_is_noticed(checked: dict[str, str]) -> None:
    assert checked["altered"].startswith("top_logprobs[0, 0, 3] is ")
    assert checked["altered"].endswith("(1 of 4 differ)")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": "double"}, TypeError, "logits are torch.float64; the kernel takes float32, float16 and bfloat16"),
        ({"tokens": "int"}, TypeError, r"tokens is torch.int32, expected torch.int64; convert it with .to\(torch.int64\)"),
        ({"quota": (4,)}, ValueError, r"quota has shape \[4\], expected \[2\] to go with the logits"),
        ({"allow_table": (1, 9)}, ValueError, r"allow_table has shape \[1, 9\], expected \[1, 11\]"),
        ({"top_k": 12}, ValueError, r"top_k=12 must lie between 1 and 11 \(vocabulary 11\)"),
        ({"block_tokens": 48}, ValueError, "block_tokens=48 must be a power of two"),
        ({}, ValueError, "the tensors are on cpu; move them to a GPU, or set TRITON_INTERPRET=1"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(change: dict, error: type[Exception], message: str) -> None:
    import torch
    from dlm_kernels.triton_unmask.launch import INPUTS, parallel_unmask

    sizes = {"B": 2, "W": 3, "V": 11, "G": 1}
    tensors: dict[str, Any] = {name: torch.zeros([sizes[letter] for letter in letters], dtype=dtype) for name, dtype, letters in INPUTS}
    tensors["logits"] = torch.zeros(2, 3, 11)
    options: dict[str, Any] = {"mask_token_id": 5, "top_k": 4}
    for name, value in change.items():
        if name not in tensors:
            options[name] = value
        elif isinstance(value, str):
            tensors[name] = getattr(tensors[name], value)()
        else:
            tensors[name] = tensors[name].new_zeros(value)
    with pytest.raises(error, match=message):
        parallel_unmask(**tensors, **options)


def test_a_window_too_wide_is_refused() -> None:
    from dlm_kernels.triton_unmask.sizes import LaunchSizes

    with pytest.raises(ValueError, match="window=5000 must lie between 1 and 4096; split the window"):
        LaunchSizes(window=5000, vocab=100, top_k=8)
