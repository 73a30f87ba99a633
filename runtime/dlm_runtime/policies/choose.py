"""From a mode's name to its policy."""

from __future__ import annotations

from dlm_runtime.bundle import Manifest, Mode
from dlm_runtime.policies.autoregressive import Autoregressive
from dlm_runtime.policies.diffusion import ThresholdDiffusion
from dlm_runtime.policies.forward import Policy
from dlm_runtime.policies.self_speculation import LinearSelfSpeculation
from dlm_runtime.policies.servable import check_servable


def policy_for(manifest: Manifest, mode: Mode, threshold: float | None = None) -> Policy:
    """The policy of `mode` with the manifest's block length and mask. `threshold` None is the manifest's; only diffusion uses it.

    Raises BundleError as `check_servable` does.
    """
    mask_token_id = check_servable(manifest)
    if mode == "ar":
        return Autoregressive()
    if mode == "self_speculation":
        return LinearSelfSpeculation(manifest.block_length, mask_token_id)
    chosen = manifest.default_threshold if threshold is None else threshold
    return ThresholdDiffusion(manifest.block_length, mask_token_id, chosen)
