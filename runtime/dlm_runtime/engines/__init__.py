"""What runs the step graph."""

from dlm_runtime.engines.base import THRESHOLD_OFF, Engine, StepBatch, StepResult
from dlm_runtime.engines.fake import FakeEngine, fake_manifest
from dlm_runtime.engines.key_values import KeyValues
from dlm_runtime.engines.onnx_engine import OnnxEngine
from dlm_runtime.engines.visibility import block_ids

__all__ = ["THRESHOLD_OFF", "Engine", "FakeEngine", "KeyValues", "OnnxEngine", "StepBatch", "StepResult", "block_ids", "fake_manifest"]
