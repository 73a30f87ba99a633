"""What whoever builds an engine may choose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlm_runtime.bundle import Manifest

from ..errors import OptionError
from .builders import BUILDERS, Builder

NO_PLUGIN, PYTHON_PLUGIN = "none", "python"
MAX_BATCH = 8
MOST_ROWS = 2**16  # an engine's sizes are 32 bits, and twice as many rows are one of them
MAX_PREFILL = 512  # tokens of a prompt in one call; more would only cost memory, as a mask grows with the square
TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class EngineOptions:
    """Raises OptionError for what no builder could do; `checked` knows the model's limits too.

    `max_batch` counts rows, `max_context` and `max_prefill` tokens; None is the model's own. `plugin` is `none`, `python` for a stand-in
    that only shows that such an engine can be built, or a library's path.
    """

    builder: Builder
    compute_capabilities: tuple[str, ...] = ()
    max_batch: int = MAX_BATCH
    max_context: int | None = None
    max_prefill: int | None = None
    plugin: str = NO_PLUGIN
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        for option, value in (("--max-batch", self.max_batch), ("--max-prefill", self.max_prefill)):
            if value is not None and value < 1:
                raise OptionError(option, value, "give at least 1")
        if self.max_batch > MOST_ROWS:
            raise OptionError("--max-batch", self.max_batch, f"give at most {MOST_ROWS}")
        if not self.timeout_s > 0:
            raise OptionError("--build-timeout", self.timeout_s, "give more than 0 seconds")
        if self.plugin not in (NO_PLUGIN, PYTHON_PLUGIN) and not Path(self.plugin).is_file():
            raise OptionError("--plugin", self.plugin, "is no file. Give none, python, or the path of the plugin's library")

    def checked(self, manifest: Manifest) -> EngineLimits:
        """The limits for a model. Raises OptionError for one that the model does not reach."""
        context = manifest.max_context if self.max_context is None else self.max_context
        if not 2 <= context <= manifest.max_context:
            raise OptionError("--max-context", context, f"the bundle's is {manifest.max_context}; give 2 to {manifest.max_context}")
        whole = manifest.context_mask == "bidirectional"  # then nothing can be kept of a prompt, and all of it is run every time
        prefill = min(context, MAX_PREFILL) if self.max_prefill is None and not whole else min(context, self.max_prefill or context)
        return EngineLimits(self.max_batch, context, prefill, min(manifest.block_length, context))


@dataclass(frozen=True)
class EngineLimits:
    """The largest sizes that an engine takes: rows, tokens of context, tokens of prompt in one call, tokens of a block."""

    max_batch: int
    max_context: int
    max_prefill: int
    block_length: int


def compute_capabilities(text: str | None, builder: Builder) -> tuple[str, ...]:
    """`86,89,12.0` as ("86", "89", "120"), in rising order. Raises OptionError naming what the builder knows."""
    if text is None:
        return ()
    known = builder.compute_capabilities
    if not known:
        raise OptionError("--compute-capability", text, f"{builder.title} builds for the card in the machine; leave it out")
    asked = [part.strip().lower().removeprefix("sm").removeprefix("_").replace(".", "") for part in text.split(",")]
    for part, given in zip(asked, text.split(","), strict=True):
        if part not in known:
            raise OptionError(
                "--compute-capability", text, f"{given.strip()!r} is none; give a comma-separated choice of {', '.join(known)}"
            )
    return tuple(sorted(set(asked), key=int))


def builder_of(target: str) -> Builder:
    """The library that builds for a target. Raises OptionError for a target that has none."""
    for name, builder in BUILDERS.items():
        if name == target:
            return builder
    raise OptionError("--target", target, f"builds no engines; give one of {', '.join(BUILDERS)}")
