"""The engine options as typed, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass

from .engines.engine_options import MAX_BATCH, NO_PLUGIN, TIMEOUT_S, EngineOptions, builder_of, compute_capabilities
from .errors import OptionError


@dataclass(frozen=True)
class EngineChoice:
    """None is what was not given."""

    compute_capability: str | None = None
    max_batch: int | None = None
    max_prefill: int | None = None
    plugin: str | None = None
    build_timeout: float | None = None
    max_context: int | None = None

    def for_export(self, target: str, *, graph_only: bool) -> EngineOptions | None:
        """None where no engine is wanted. Raises OptionError for options that then mean nothing, or that cannot be."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if target == "onnxruntime" or graph_only:
            why = "--graph-only builds none" if graph_only else "--target onnxruntime has none"
            for name, value in given.items():
                raise OptionError(f"--{name.replace('_', '-')}", value, f"is about an engine, and {why}")
            return None
        return self.options(target)

    def options(self, target: str) -> EngineOptions:
        """The options of a build. Raises OptionError."""
        builder = builder_of(target)
        return EngineOptions(
            builder,
            compute_capabilities(self.compute_capability, builder),
            MAX_BATCH if self.max_batch is None else self.max_batch,
            self.max_context,
            self.max_prefill,
            NO_PLUGIN if self.plugin is None else self.plugin,
            TIMEOUT_S if self.build_timeout is None else self.build_timeout,
        )
