"""The step graph in ONNX Runtime, on whichever execution provider."""

from __future__ import annotations

from collections import OrderedDict

import onnxruntime as ort

from dlm_runtime.bundle import Bundle, Manifest
from dlm_runtime.engines.base import StepBatch, StepResult
from dlm_runtime.engines.binding import StepBinding, element_of
from dlm_runtime.engines.provider import PROVIDERS, Provider
from dlm_runtime.engines.remote_past import RemotePasts
from dlm_runtime.engines.session import first_line, nodes_by_provider, open_session, session_options
from dlm_runtime.engines.signature import check_signature
from dlm_runtime.errors import EngineError

_KEPT_BINDINGS = 32


class OnnxEngine:
    """Runs a bundle's model.onnx on `provider` with `threads` threads (None: ONNX Runtime decides).

    Inputs and outputs stand in buffers that are bound once per shape; on the CPU the past is bound where it lies and never copied, as long
    as it stays at its address. Raises EngineError when the provider cannot be used, and when the model cannot be loaded or is not the
    step graph that the manifest describes.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, provider: Provider = PROVIDERS["cpu"]) -> None:
        self._manifest = bundle.manifest
        self.provider = provider
        self._remote = None if provider.memory is None else RemotePasts(provider.memory, element_of(bundle.manifest.cache_type))
        options = session_options(threads)
        self._session: ort.InferenceSession | None = open_session(bundle.model_path, provider, options)
        check_signature(self._session, self._manifest, bundle.model_path)
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
        except Exception as error:  # ONNX Runtime's own exception types share no other base
            raise EngineError(
                f"the model failed on {batch.rows} rows of {batch.input_ids.shape[1]} tokens ({first_line(error)})"
            ) from error
        return binding.result()

    def nodes(self) -> dict[str, int]:
        """How many operators run on which provider; empty where ONNX Runtime does not tell."""
        return {} if self._session is None else nodes_by_provider(self._session)

    def close(self) -> None:
        """Frees the session."""
        self._bindings.clear()
        self._session = None

    def _binding(self, session: ort.InferenceSession, batch: StepBatch) -> StepBinding:
        key = StepBinding.key(batch)
        binding = self._bindings.pop(key, None)
        if binding is None:
            binding = StepBinding(session, self._manifest, batch, self._remote)
            if len(self._bindings) >= _KEPT_BINDINGS:
                self._bindings.popitem(last=False)
        self._bindings[key] = binding
        return binding
