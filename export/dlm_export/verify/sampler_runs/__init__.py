"""Recorded sampler runs as policies and lines: one file per family of samplers.

A file lists its samplers in a dictionary `RUNS` from the sampler's name in samples.json to a function that prepares a run; this one puts
the dictionaries together.
"""

from .parameters import UnknownSampler, UnsupportedRun
from .prepared import Log, PreparedRow, PreparedRun, RecordedRun
from .registry import SAMPLERS, prepare

__all__ = ["SAMPLERS", "Log", "PreparedRow", "PreparedRun", "RecordedRun", "UnknownSampler", "UnsupportedRun", "prepare"]
