"""A bundle: the folder that an exporter writes and an engine loads."""

from dlm_runtime.bundle.folder import Bundle, write_manifest
from dlm_runtime.bundle.manifest import Manifest, Mode, Source, Target

__all__ = ["Bundle", "Manifest", "Mode", "Source", "Target", "write_manifest"]
