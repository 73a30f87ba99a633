"""Does the exported graph compute what the torch module computes? One case per way the graph is used.

`cases` says what is asked, `session` asks the graph, `torch_reference` answers plainly row by row, `compare` holds them side by side,
`golden` does the same with recorded logits.
"""

from .compare import CaseResult, Tolerance, VerifyReport
from .run import verify_bundle

__all__ = ["CaseResult", "Tolerance", "VerifyReport", "verify_bundle"]
