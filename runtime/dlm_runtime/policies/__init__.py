"""How a line comes about: one small policy per mode."""

from dlm_runtime.policies.autoregressive import Autoregressive
from dlm_runtime.policies.choose import check_servable, policy_for
from dlm_runtime.policies.diffusion import ThresholdDiffusion
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Decoding, Directive, Extend, Outcome, Passes, Policy, Prefill, Rule, Speculate
from dlm_runtime.policies.sampling import Sampling
from dlm_runtime.policies.self_speculation import LinearSelfSpeculation

__all__ = [
    "Autoregressive",
    "Decoding",
    "Directive",
    "Extend",
    "Line",
    "LinearSelfSpeculation",
    "Outcome",
    "Passes",
    "Policy",
    "Prefill",
    "Rule",
    "Sampling",
    "Speculate",
    "ThresholdDiffusion",
    "check_servable",
    "policy_for",
]
