"""Rewrites of the finished graph: what the exporter writes in operators that run anywhere becomes one newer operator where it pays.

One rewrite per file, as a pattern, a check that says why not, and a replacement (onnxscript's rewriter). `apply` runs those of a target.
"""

from .apply import apply_rewrites
from .report import Miss, RewriteOutcome, RewriteReport
from .rewrite import Rewrite

__all__ = ["Miss", "Rewrite", "RewriteOutcome", "RewriteReport", "apply_rewrites"]
