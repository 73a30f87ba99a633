"""Which bundles lines can be written with."""

from dlm_runtime.policies.choose import check_servable

__all__ = ["check_servable"]
