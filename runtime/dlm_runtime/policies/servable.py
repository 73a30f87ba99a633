"""Which bundles the policies and the scheduler can speak with: fewer than can be exported, verified and run step by step."""

from __future__ import annotations

from pathlib import Path

from dlm_runtime.bundle import MANIFEST_NAME, Manifest
from dlm_runtime.errors import BundleError


def check_servable(manifest: Manifest, file: Path | str = MANIFEST_NAME) -> int:
    """The mask token of a model that lines can be written with.

    Raises BundleError naming `file`, the manifest's field, its value and what is served, where the model needs what is not here yet: a
    context whose blocks are stored otherwise than causally, logits that speak of the next position, canvases of random tokens, keys and
    values in another type than float32 or of different shapes per layer.
    """
    _require(file, "context_mask", manifest.context_mask, "causal")
    _require(file, "logit_shift", manifest.logit_shift, 0)
    _require(file, "cache_type", manifest.cache_type, "float32")
    if manifest.layer_caches:
        shapes = " and ".join(f"{heads} x {width}" for heads, width in sorted(set(manifest.layer_caches)))
        raise _refusal(file, f"layer_caches of {shapes}", "bundles without layer_caches, whose layers keep keys and values alike,")
    if manifest.mask_token_id is None:
        raise _refusal(file, "mask_token_id=null", "bundles with a mask token")
    return manifest.mask_token_id


def _require(file: Path | str, field: str, value: object, served: object) -> None:
    if value != served:
        raise _refusal(file, f"{field}={value!r}", f"bundles with {field}={served!r}")


def _refusal(file: Path | str, found: str, served: str) -> BundleError:
    return BundleError(
        file,
        f"has {found}, which this release cannot write lines with",
        f"It serves {served} only; `dlm-export verify` and `dlm-export inspect` work with this one all the same",
    )
