"""What whoever exports may choose, and how it is checked against the family."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlm_runtime.bundle import ContextMask, EngineName, Mode, Precision

from .defaults import TOP_K
from .engines.engine_options import EngineOptions
from .errors import OptionError
from .families import FamilyFacts, SpecialOverrides
from .precision import PrecisionChoice


@dataclass(frozen=True)
class Choices:
    """The options of a bundle once they are known to suit the family."""

    modes: tuple[Mode, ...]
    context_mask: ContextMask
    max_context: int
    block_length: int


@dataclass(frozen=True)
class ExportOptions:
    """Everything left out is the family's or the checkpoint's own.

    `source_name` and `revision` say in the manifest where the checkpoint came from, where its folder does not. `loop` adds the graph that
    denoises a whole block in one call; `engine` has engines built of the graphs.
    """

    precision: Precision = "fp32"
    embedding_precision: Precision | None = None
    head_precision: Precision | None = None
    kept_layers: tuple[str, ...] = ()
    target: EngineName = "onnxruntime"
    name: str | None = None
    modes: tuple[Mode, ...] | None = None
    context_mask: ContextMask | None = None
    max_context: int | None = None
    block_length: int | None = None
    top_k: int = TOP_K
    special: SpecialOverrides = field(default_factory=SpecialOverrides)
    source_name: str | None = None
    revision: str | None = None
    loop: bool = False
    engine: EngineOptions | None = None

    def __post_init__(self) -> None:
        if self.engine is not None and self.engine.builder.name != self.target:
            raise OptionError("--target", self.target, f"{self.engine.builder.title} builds engines for {self.engine.builder.name}")
        if self.top_k < 1:
            raise OptionError("--top-k", self.top_k, "give at least 1")
        if self.name is not None and any("\ud800" <= character <= "\udfff" for character in self.name):
            raise OptionError("--name", ascii(self.name), "it holds bytes that are no text")

    def checked(self, facts: FamilyFacts, *, max_context: int, block_length: int) -> Choices:
        """The choices with the family's own filled in. Raises OptionError naming the option, its value and what would suit."""
        modes = self.modes or facts.modes
        for mode in modes:
            if mode not in facts.modes:
                raise OptionError("--modes", ",".join(modes), f"{facts.architecture} can do {', '.join(facts.modes)}")
        context_mask = self.context_mask or facts.context_masks[0]
        if context_mask not in facts.context_masks:
            raise OptionError("--context-mask", context_mask, f"{facts.architecture} can do {', '.join(facts.context_masks)}")
        usual_context = max_context if facts.trained_positions is None else min(max_context, facts.trained_positions)
        context = usual_context if self.max_context is None else self.max_context
        if not 2 <= context <= max_context:
            raise OptionError("--max-context", context, f"the model was made for at most {max_context} positions; give 2 to {max_context}")
        block = min(block_length, context) if self.block_length is None else self.block_length
        if not 1 <= block <= context:
            raise OptionError("--block-length", block, f"give 1 to {context}, the context's length")
        default = facts.default_mode
        ordered: tuple[Mode, ...] = tuple(mode for mode in facts.modes if mode in modes)
        if default in ordered:
            ordered = (default, *(mode for mode in ordered if mode != default))
        return Choices(ordered, context_mask, context, block)

    def notes(self, facts: FamilyFacts) -> tuple[str, ...]:
        """What was taken for lack of a choice, and might be wrong."""
        if len(facts.context_masks) == 1 or self.context_mask is not None:
            return ()
        taken, *others = facts.context_masks
        return (
            f"{facts.architecture} is trained in more ways than one, and the checkpoint does not say which: "
            f"{taken} was taken; --context-mask {others[0]} is the other.",
        )

    def precisions(self, stored: Precision = "fp32") -> PrecisionChoice:
        """Which precision each part gets, `stored` being that of the checkpoint's embedding. OptionError where it cannot be."""
        return PrecisionChoice(self.precision, self.embedding_precision, self.head_precision, self.kept_layers, self.target, stored)


DEFAULT_OPTIONS = ExportOptions()
