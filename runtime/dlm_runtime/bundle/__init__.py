"""A bundle: the folder that an exporter writes and an engine loads."""

from dlm_runtime.bundle.folder import MANIFEST_NAME, Bundle, write_manifest
from dlm_runtime.bundle.manifest import CacheType, ContextMask, EngineName, Manifest, Mode, Plan, PlanProfile, Precision, Source, Target

__all__ = [
    "MANIFEST_NAME",
    "Bundle",
    "CacheType",
    "ContextMask",
    "EngineName",
    "Manifest",
    "Mode",
    "Plan",
    "PlanProfile",
    "Precision",
    "Source",
    "Target",
    "write_manifest",
]
