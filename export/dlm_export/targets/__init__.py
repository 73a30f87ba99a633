"""Where a model is to run, and what that asks of its graph."""

from .choices import TARGET_NAMES, target_of
from .target import AppliedRewrite, ExportTarget

__all__ = ["TARGET_NAMES", "AppliedRewrite", "ExportTarget", "target_of"]
