"""The op on torch tensors: checks, output tensors and the two launches."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton import knobs

from .commit import commit_kernel
from .measure import measure_kernel
from .sizes import LaunchSizes

LOGITS_TYPES = (torch.float32, torch.float16, torch.bfloat16)
INPUTS = (  # after the logits, in the op's order
    ("tokens", torch.int64, "BW"),
    ("live", torch.bool, "BW"),
    ("positions", torch.int64, "BW"),
    ("allow_rows", torch.int64, "BW"),
    ("allow_table", torch.float32, "GV"),
    ("quota", torch.int64, "B"),
    ("threshold", torch.float32, "B"),
    ("factor", torch.float32, "B"),
    ("measure", torch.int64, "B"),
    ("temperature", torch.float32, "B"),
    ("rank_temperature", torch.float32, "B"),
    ("seed", torch.int64, "B"),
    ("step", torch.int64, "B"),
)


class UnmaskTensors(NamedTuple):
    """The op's outputs, on the device of its inputs."""

    canvas: Tensor  # int64 [B, W]
    committed: Tensor  # int64 [B]
    sampled_ids: Tensor  # int64 [B, W]
    confidence: Tensor  # float32 [B, W]
    entropy: Tensor  # float32 [B, W], nats
    top_ids: Tensor  # int64 [B, W, K]
    top_logprobs: Tensor  # float32 [B, W, K]


def check_logits(logits: Tensor) -> dict[str, int]:
    """Sizes by letter, B, W and V. Raises TypeError or ValueError."""
    if logits.dtype not in LOGITS_TYPES:
        raise TypeError(f"logits are {logits.dtype}; the kernel takes float32, float16 and bfloat16, so convert them")
    if logits.ndim != 3 or 0 in logits.shape:
        raise ValueError(f"logits have shape {list(logits.shape)}, expected [rows, window, vocabulary], none of them 0")
    return dict(zip("BWV", logits.shape, strict=True))


def check_device(device: torch.device) -> None:
    """Raises ValueError for the CPU, unless Triton interprets."""
    if device.type == "cpu" and not knobs.runtime.interpret:
        raise ValueError(f"the tensors are on {device}; move them to a GPU, or set TRITON_INTERPRET=1 before the start to test without one")


def check_input(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """The tensor, contiguous. Raises TypeError for another type, ValueError for another shape or device."""
    if tensor.dtype != dtype:
        raise TypeError(f"{name} is {tensor.dtype}, expected {dtype}; convert it with .to({dtype})")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {list(shape)} to go with the logits")
    if tensor.device != device:
        raise ValueError(f"{name} is on {tensor.device}, the logits on {device}; move it there")
    return tensor.contiguous()


def empty_outputs(sizes: dict[str, int], top_k: int, device: torch.device) -> UnmaskTensors:
    """Room for the outputs; both kernels write all of it."""
    rows, window = sizes["B"], sizes["W"]

    def ints(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.int64, device=device)

    def floats(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=device)

    grid = (rows, window)
    return UnmaskTensors(ints(*grid), ints(rows), ints(*grid), floats(*grid), floats(*grid), ints(*grid, top_k), floats(*grid, top_k))


def parallel_unmask(
    logits: Tensor,
    tokens: Tensor,
    live: Tensor,
    positions: Tensor,
    allow_rows: Tensor,
    allow_table: Tensor,
    quota: Tensor,
    threshold: Tensor,
    factor: Tensor,
    measure: Tensor,
    temperature: Tensor,
    rank_temperature: Tensor,
    seed: Tensor,
    step: Tensor,
    *,
    mask_token_id: int,
    top_k: int,
    block_tokens: int | None = None,
) -> UnmaskTensors:
    """`dlm::ParallelUnmask` version 2; what the inputs mean stands in docs/unmasking.md and `dlm_kernels/unmask/parallel_unmask.onnxtxt`.

    `block_tokens`, a power of two, is how many logits a program reads at a time; left out, a size that suits a GPU.
    `allow_rows` must lie within the table and `measure` within 0, 1, 2: reading them back to check would stop the device.
    Raises TypeError for a wrong type, ValueError for a wrong shape, device, `top_k`, window or `block_tokens`.
    """
    sizes = check_logits(logits) | {"G": allow_table.shape[0] if allow_table.ndim else 0}
    launch = LaunchSizes(sizes["W"], sizes["V"], top_k, block_tokens)
    given = (tokens, live, positions, allow_rows, allow_table, quota, threshold, factor, measure, temperature, rank_temperature, seed, step)
    held = {
        name: check_input(name, tensor, dtype, tuple(sizes[letter] for letter in letters), logits.device)
        for (name, dtype, letters), tensor in zip(INPUTS, given, strict=True)
    }
    check_device(logits.device)
    outputs = empty_outputs(sizes, top_k, logits.device)
    run_measure(logits.contiguous(), held, outputs, launch)
    run_commit(held, outputs, launch, rows=sizes["B"], mask_token_id=mask_token_id)
    return outputs


def run_measure(logits: Tensor, held: dict[str, Tensor], outputs: UnmaskTensors, launch: LaunchSizes) -> None:
    """Launch the measuring kernel, which writes all outputs but `canvas` and `committed`."""
    read = ("positions", "allow_rows", "allow_table", "measure", "temperature", "seed", "step")
    kernel: Any = measure_kernel  # what stands between the brackets and the options are Triton's, unknown to type checkers
    kernel[(logits.shape[0] * launch.window,)](
        logits,
        *(held[name] for name in read),
        *outputs[2:],
        launch.window,
        launch.vocab,
        TOP_K=launch.top_k,
        SLOTS=launch.slots,
        BLOCK=launch.block,
        num_warps=launch.measure_warps,
        enable_fp_fusion=False,
    )


def run_commit(held: dict[str, Tensor], outputs: UnmaskTensors, launch: LaunchSizes, *, rows: int, mask_token_id: int) -> None:
    """Launch the committing kernel on what the other has measured."""
    read = ("tokens", "live", "positions", "quota", "threshold", "factor", "rank_temperature", "seed", "step")
    kernel: Any = commit_kernel
    kernel[(rows,)](
        *(held[name] for name in read),
        outputs.sampled_ids,
        outputs.confidence,
        outputs.canvas,
        outputs.committed,
        launch.window,
        launch.vocab,
        mask_token_id,
        OWN=launch.own,
        RIVALS=launch.rivals,
        num_warps=launch.commit_warps,
        enable_fp_fusion=False,
    )
