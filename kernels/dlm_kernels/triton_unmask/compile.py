"""`python -m dlm_kernels.triton_unmask.compile OUT [--compute-capability 80,86,89,90,120]`: PTX and cubins ahead of time, without a GPU.

OUT gets `{kernel}_sm{capability}.ptx` and `.cubin` and a `manifest.json` that says how to launch each: entry point, grid, threads, shared
memory, the arguments in order, what it serves, sha256 of the files. A program loads them with the CUDA driver API and needs no Python.
PTX of 80 runs on 80 and everything later; that of 90 and 120 is for sm_90a and sm_120a alone. Products and sums are not fused, so that
the results are those of the other implementations.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .variants import ALIGNED, SCRATCH, Variant, all_variants

CAPABILITIES = (80, 86, 89, 90, 120)
OLDEST_PTX = {80: 80, 86: 80, 89: 80}  # PTX 8.0, which drivers since CUDA 12.0 read; others keep what their capability needs
LOGITS_TYPES = ("fp32", "fp16", "bf16")
WARP_THREADS = 32
OP, OP_VERSION = "dlm::ParallelUnmask", 2


def compile_variant(variant: Variant, capability: int) -> Any:
    """Triton's compiled kernel: `asm` by stage and `metadata`."""
    source = ASTSource(fn=variant.kernel, signature=variant.signature, constexprs=variant.constants, attrs=variant.attributes)
    options = {"num_warps": variant.num_warps, "enable_fp_fusion": False, "ptx_version": OLDEST_PTX.get(capability)}
    return triton.compile(source, target=GPUTarget("cuda", capability, WARP_THREADS), options=options)


def write_file(path: Path, data: bytes) -> dict[str, str]:
    """Its entry in the manifest."""
    path.write_bytes(data)
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest()}


def arguments(variant: Variant) -> list[dict[str, str | int]]:
    """In the order of the launch. `multiple_of` is a promise the caller makes; scratch pointers are passed as null."""
    promises: dict[str, dict[str, str | int]] = {name: {"multiple_of": ALIGNED} for name in variant.aligned}
    named = [{"name": name, "type": kind} | promises.get(name, {}) for name, kind in variant.arguments.items()]
    return named + [{"name": name, "type": "null pointer"} for name in SCRATCH]


def write_variant(out: Path, variant: Variant, capability: int) -> dict[str, Any]:
    """Compile one kernel for one capability, write its files, and return its entry in the manifest."""
    compiled = compile_variant(variant, capability)
    metadata = compiled.metadata
    if metadata.global_scratch_size:
        raise ValueError(f"{variant.name} for {capability=} asks for {metadata.global_scratch_size} bytes of scratch; callers pass none")
    stem = f"{variant.name}_sm{capability}"
    return {
        "name": variant.name,
        "capability": capability,
        "entry": metadata.name,
        "grid": variant.grid,
        "threads": [metadata.num_warps * WARP_THREADS, 1, 1],
        "num_warps": metadata.num_warps,
        "shared_bytes": metadata.shared,
        "arguments": arguments(variant),
        "constants": variant.constants,
        "serves": variant.serves,
        "ptx": write_file(out / f"{stem}.ptx", compiled.asm["ptx"].encode()),
        "cubin": write_file(out / f"{stem}.cubin", compiled.asm["cubin"]),
    }


def write_kernels(out: Path, capabilities: list[int], logits_types: tuple[str, ...], top_k: int, largest_window: int) -> Path:
    """Compile everything into the folder `out`; returns the manifest's path. Raises RuntimeError under Triton's interpreter."""
    if knobs.runtime.interpret:
        raise RuntimeError("TRITON_INTERPRET is set, so there is nothing to compile; unset it and start a new process")
    out.mkdir(parents=True, exist_ok=True)
    variants = all_variants(logits_types, top_k, largest_window)
    kernels = [write_variant(out, variant, capability) for capability in capabilities for variant in variants]
    manifest = {"op": OP, "op_version": OP_VERSION, "triton": triton.__version__, "top_k": top_k, "kernels": kernels}
    path = out / "manifest.json"
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return path


def chosen(text: str, known: tuple[Any, ...]) -> list[Any]:
    """The comma-separated items of an option. Raises ArgumentTypeError for one that is not known."""
    by_text = {str(item): item for item in known}
    unknown = [item for item in text.split(",") if item not in by_text]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)!r} is none of {', '.join(by_text)}")
    return [by_text[item] for item in text.split(",")]


def main() -> None:
    """Compile what the options say, and print the manifest's path."""
    parser = argparse.ArgumentParser(description="Compile the unmasking kernels ahead of time.")
    parser.add_argument("out", type=Path, help="folder for the files")
    parser.add_argument(
        "--compute-capability",
        type=lambda text: chosen(text, CAPABILITIES),
        default=list(CAPABILITIES),
        help="80,86,89,90,120 or some of them",
    )
    parser.add_argument("--logits", type=lambda text: chosen(text, LOGITS_TYPES), default=list(LOGITS_TYPES), help="fp32,fp16,bf16 or some")
    parser.add_argument("--top-k", type=int, default=8, help="likeliest tokens reported per position")
    parser.add_argument("--largest-window", type=int, default=128, help="window positions per row, at most")
    options = parser.parse_args()
    knobs.compilation.disable_line_info = True  # or the files would name the folder they were made in
    with tempfile.TemporaryDirectory() as cache:
        knobs.cache.dir = cache  # what is written comes from this source, not from an earlier run
        path = write_kernels(options.out, options.compute_capability, tuple(options.logits), options.top_k, options.largest_window)
    print(path)


if __name__ == "__main__":
    main()
