"""The runtime: bundle -> engine -> block -> line. No layer here imports one above it.

Layers, lowest first: `errors`, `bundle`, `engines`, `cache`, `policies`, `scheduler`, then `dialogue` and `service`.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
