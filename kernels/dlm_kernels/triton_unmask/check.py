"""`python -m dlm_kernels.triton_unmask.check FILE_OR_FOLDER... [--device cuda] [--block-tokens N]`: the kernels against test vectors.

Prints one line per case and exits with 1 if any differs. Without a GPU: TRITON_INTERPRET=1 and the device cpu, which is slow.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dlm_kernels.vectors import UnmaskCase, read_case
from dlm_kernels.vectors.case_file import INPUTS, OUTPUTS, TOLERANCE

from .check_draws import wrong_draws
from .launch import LOGITS_TYPES, UnmaskTensors, parallel_unmask

TYPES = dict(zip(("fp32", "fp16", "bf16"), LOGITS_TYPES, strict=True))


def run_case(case: UnmaskCase, device: str, block_tokens: int | None) -> UnmaskTensors:
    """What the kernels answer to a case."""
    tensors = [torch.from_numpy(np.asarray(getattr(case.inputs, name))).to(device) for name, _, _ in INPUTS]
    logits = torch.from_numpy(case.inputs.logits).to(device, TYPES[case.logits_type])
    return parallel_unmask(logits, *tensors, mask_token_id=case.mask_token_id, top_k=case.top_k, block_tokens=block_tokens)


def wrong_places(ours: NDArray[np.generic], expected: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where a value is not what it should be: whole numbers exactly, floats as `case_file` says."""
    if ours.dtype != expected.dtype or ours.shape != expected.shape:
        return np.ones(expected.shape, bool)
    if expected.dtype.kind != "f":
        return ours != expected
    return ~np.isclose(ours, expected, rtol=TOLERANCE, atol=TOLERANCE)


def differences(case: UnmaskCase, found: UnmaskTensors) -> list[str]:
    """One sentence for each output that differs."""
    sentences = []
    for name, _, _ in OUTPUTS:
        ours, expected = getattr(found, name).cpu().numpy(), np.asarray(getattr(case.expected, name))
        wrong = wrong_places(ours, expected)
        if wrong.any():
            first = tuple(int(index) for index in np.argwhere(wrong)[0])
            sentences.append(f"{name}{list(first)} is {ours[first]}, expected {expected[first]} ({wrong.sum()} of {wrong.size} differ)")
    return sentences


def case_files(paths: list[Path]) -> list[Path]:
    """The files named, and those in the folders named. Raises FileNotFoundError if there are none."""
    found = [file for path in paths for file in (sorted(path.glob("*.bin")) if path.is_dir() else [path])]
    if not found:
        raise FileNotFoundError(f"no .bin file in {', '.join(map(str, paths))}; write some with python -m dlm_kernels.vectors.generate")
    return found


def main() -> int:
    """1 if anything differs, else 0."""
    parser = argparse.ArgumentParser(description="Run the Triton kernels on test vectors.")
    parser.add_argument("paths", nargs="+", type=Path, help="case files, or folders of them")
    parser.add_argument("--device", default="cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
    parser.add_argument("--block-tokens", type=int, help="logits read at a time, a power of two")
    options = parser.parse_args()
    wrong_numbers = wrong_draws(options.device)
    print(f"random numbers: {wrong_numbers or 'ok'}", flush=True)
    failures = int(bool(wrong_numbers))
    for path in case_files(options.paths):
        case = read_case(path)
        wrong = differences(case, run_case(case, options.device, options.block_tokens))
        failures += bool(wrong)
        print(f"{path.stem}: {'; '.join(wrong) or 'ok'}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
