"""How a line comes about: one small policy per mode."""

from dlm_runtime.policies.autoregressive import Autoregressive
from dlm_runtime.policies.choose import policy_for
from dlm_runtime.policies.diffusion import ThresholdDiffusion
from dlm_runtime.policies.forward import Decoding, Forward, Policy, Prefill, Reply
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.self_speculation import LinearSelfSpeculation
from dlm_runtime.policies.servable import check_servable

__all__ = [
    "Autoregressive",
    "Decoding",
    "Forward",
    "Line",
    "LinearSelfSpeculation",
    "Policy",
    "Prefill",
    "Reply",
    "ThresholdDiffusion",
    "check_servable",
    "policy_for",
]
