"""From a model and what a request says to the policy that writes its line."""

from __future__ import annotations

from pathlib import Path

from dlm_runtime.bundle import MANIFEST_NAME, Manifest, Mode
from dlm_runtime.errors import BundleError, RequestError
from dlm_runtime.policies.autoregressive import Autoregressive
from dlm_runtime.policies.block_loops import BLOCK_LOOPS, mask_of
from dlm_runtime.policies.canvas_loops import CANVAS_LOOPS
from dlm_runtime.policies.loop import Loop
from dlm_runtime.policies.passes import Policy
from dlm_runtime.policies.sampler_loops import over_own_loops
from dlm_runtime.policies.self_speculation import LinearSelfSpeculation

OWN_LOOPS: tuple[Loop, ...] = (*BLOCK_LOOPS, *CANVAS_LOOPS)
LOOPS: tuple[Loop, ...] = (*OWN_LOOPS, *over_own_loops(OWN_LOOPS))
"""A model's own loop, that of its mode "diffusion", is the first here that fits it."""


def loops_of(manifest: Manifest) -> tuple[str, ...]:
    """Names of the loops that fit a model, its own first: what a request may name."""
    return tuple(loop.name for loop in LOOPS if loop.fits(manifest))


def policy_for(manifest: Manifest, mode: Mode, threshold: float | None = None, sampler: str | None = None) -> Policy:
    """The policy of `mode`, or the loop called `sampler` in its place, with the manifest's block length and mask.

    `threshold` None is the manifest's; loops that have none do not mind it. Raises RequestError for a loop that does not fit the model, and
    BundleError where none does (see `check_servable`).
    """
    check_servable(manifest)
    if sampler is None and mode == "ar":
        return Autoregressive()
    if sampler is None and mode == "self_speculation":
        return LinearSelfSpeculation(manifest.block_length, mask_of(manifest))
    chosen = manifest.default_threshold if threshold is None else threshold
    return loop_for(manifest, sampler).make(manifest, chosen)


def loop_for(manifest: Manifest, sampler: str | None) -> Loop:
    """The loop of that name, or the model's own. Raises as `policy_for`."""
    check_servable(manifest)
    for loop in LOOPS:
        if sampler in (None, loop.name) and loop.fits(manifest):
            return loop
    raise RequestError("sampler", sampler, f"this model can be decoded with {', '.join(loops_of(manifest))}")


def check_servable(manifest: Manifest, file: Path | str = MANIFEST_NAME) -> None:
    """Raises BundleError naming `file`, the manifest's fields and their values, where no loop can write lines with the model."""
    if any(loop.fits(manifest) for loop in LOOPS):
        return
    fields = {"family": manifest.family, "context_mask": manifest.context_mask, "logit_shift": manifest.logit_shift}
    found = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    mask = "null" if manifest.mask_token_id is None else str(manifest.mask_token_id)
    raise BundleError(
        file,
        f"has {found} and mask_token_id={mask}, and this release has no decoding loop for such a model",
        "`dlm-export verify` and `dlm-export inspect` work with it all the same; a family's loops are listed in policies/choose.py",
    )
