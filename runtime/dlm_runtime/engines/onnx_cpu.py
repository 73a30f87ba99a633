"""The step graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

from collections import OrderedDict

import onnxruntime as ort

from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines.base import StepBatch, StepResult
from dlm_runtime.engines.binding import StepBinding
from dlm_runtime.engines.signature import check_cache, check_signature
from dlm_runtime.errors import EngineError

_EXPORT_AGAIN = "Export the bundle again with dlm-export"
_KEPT_BINDINGS = 32


class OnnxEngine:
    """Runs a bundle's model.onnx with `threads` threads (None: ONNX Runtime decides).

    Inputs and outputs stand in buffers that are bound once per shape; the past is bound where it lies and never copied, as long as it
    stays at its address. Raises EngineError when the model cannot be loaded, is not the step graph that the manifest describes, or has
    keys and values that are not float32 of one shape in all layers, as `StepBatch.past` holds them.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        self._manifest = bundle.manifest
        options = ort.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Batches change shape from step to step; a remembered memory plan for every shape ever seen would grow without end.
        options.enable_mem_pattern = False
        # Spinning workers would take the cores from the game between two steps.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: ort.InferenceSession | None = ort.InferenceSession(
                str(bundle.model_path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exception types share no other base
            raise EngineError(
                f"{bundle.model_path} cannot be loaded ({_first_line(error)})", f"The file is damaged. {_EXPORT_AGAIN}"
            ) from error
        check_signature(self._session, self._manifest, bundle.model_path)
        check_cache(self._manifest, bundle.model_path)
        self._bindings: OrderedDict[tuple[object, ...], StepBinding] = OrderedDict()

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self._manifest

    def step(self, batch: StepBatch) -> StepResult:
        """One forward pass. Raises EngineError when the model fails on this batch or the engine is closed."""
        if self._session is None:
            raise EngineError("the engine is closed")
        try:
            binding = self._binding(self._session, batch)
            binding.fill(batch)
            self._session.run_with_iobinding(binding.bound)
        except EngineError:
            raise
        except Exception as error:  # as above
            raise EngineError(
                f"the model failed on {batch.rows} rows of {batch.input_ids.shape[1]} tokens ({_first_line(error)})"
            ) from error
        return binding.result()

    def close(self) -> None:
        """Frees the session."""
        self._bindings.clear()
        self._session = None

    def _binding(self, session: ort.InferenceSession, batch: StepBatch) -> StepBinding:
        key = StepBinding.key(batch)
        binding = self._bindings.pop(key, None)
        if binding is None:
            binding = StepBinding(session, self._manifest, batch)
            if len(self._bindings) >= _KEPT_BINDINGS:
                self._bindings.popitem(last=False)
        self._bindings[key] = binding
        return binding


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
