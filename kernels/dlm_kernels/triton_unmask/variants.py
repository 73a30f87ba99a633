"""What there is to compile ahead of time: each kernel with its argument types and the constants that stand in the code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .commit import commit_kernel
from .measure import measure_kernel
from .sizes import BLOCK_TOKENS, LaunchSizes

INT, FLOAT, BOOL, COUNT, CONSTANT = "*i64", "*fp32", "*i1", "i32", "constexpr"
MEASURE_ARGUMENTS = {
    "logits": "",  # the variant says
    "positions": INT,
    "allow_rows": INT,
    "allow_table": FLOAT,
    "measure": INT,
    "temperature": FLOAT,
    "seed": INT,
    "step": INT,
    "sampled_ids": INT,
    "confidence": FLOAT,
    "entropy": FLOAT,
    "top_ids": INT,
    "top_logprobs": FLOAT,
    "window": COUNT,
    "vocab": COUNT,
}
COMMIT_ARGUMENTS = {
    "tokens": INT,
    "live": BOOL,
    "positions": INT,
    "quota": INT,
    "threshold": FLOAT,
    "factor": FLOAT,
    "rank_temperature": FLOAT,
    "seed": INT,
    "step": INT,
    "sampled_ids": INT,
    "confidence": FLOAT,
    "canvas": INT,
    "committed": INT,
    "window": COUNT,
    "vocab": COUNT,
    "mask_token_id": COUNT,
}
ALIGNED = 16  # bytes of a pointer, or what a vocabulary is a multiple of, so that loads can be 16 bytes wide
SCRATCH = ("global_scratch", "profile_scratch")  # Triton appends them to every kernel; these kernels need none


@dataclass(frozen=True)
class Variant:
    """One kernel, compiled once per compute capability."""

    name: str
    kernel: Any
    arguments: dict[str, str]  # name -> Triton's type
    constants: dict[str, int]
    aligned: tuple[str, ...]  # arguments that are multiples of 16
    grid: tuple[str, int, int]
    num_warps: int
    serves: dict[str, Any]  # what a caller must compare to choose it

    @property
    def signature(self) -> dict[str, str]:
        """Triton's type of every argument, the constants among them, in order."""
        return self.arguments | dict.fromkeys(self.constants, CONSTANT)

    @property
    def attributes(self) -> dict[tuple[int], list[list[Any]]]:
        """What Triton may take for granted, by the argument's place."""
        order = list(self.signature)
        return {(order.index(name),): [["tt.divisibility", ALIGNED]] for name in self.aligned}


def measure_variant(logits_type: str, vocab_multiple: int, top_k: int) -> Variant:
    """The measuring kernel for logits fp32, fp16 or bf16, and vocabularies that are multiples of 16 or any."""
    sizes = LaunchSizes(window=1, vocab=BLOCK_TOKENS, top_k=top_k)
    return Variant(
        name=f"measure_{logits_type}_{'any' if vocab_multiple == 1 else f'x{vocab_multiple}'}",
        kernel=measure_kernel,
        arguments=MEASURE_ARGUMENTS | {"logits": f"*{logits_type}"},
        constants={"TOP_K": top_k, "SLOTS": sizes.slots, "BLOCK": sizes.block},
        aligned=("logits", "allow_table", *(("vocab",) if vocab_multiple == ALIGNED else ())),
        grid=("B * W", 1, 1),
        num_warps=sizes.measure_warps,
        serves={"logits_type": logits_type, "vocab_multiple": vocab_multiple},
    )


def commit_variant(largest_window: int) -> Variant:
    """The committing kernel for windows up to `largest_window`."""
    sizes = LaunchSizes(window=largest_window, vocab=1, top_k=1)
    return Variant(
        name="commit",
        kernel=commit_kernel,
        arguments=COMMIT_ARGUMENTS,
        constants={"OWN": sizes.own, "RIVALS": sizes.rivals},
        aligned=(),
        grid=("B", 1, 1),
        num_warps=sizes.commit_warps,
        serves={"largest_window": sizes.own},
    )


def all_variants(logits_types: tuple[str, ...], top_k: int, largest_window: int) -> list[Variant]:
    """Two measuring kernels per type of logits, and the committing one."""
    measures = [measure_variant(kind, multiple, top_k) for kind in logits_types for multiple in (ALIGNED, 1)]
    return [*measures, commit_variant(largest_window)]
