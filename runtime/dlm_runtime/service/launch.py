"""From folders on disk to a running server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dlm_runtime.bundle import MANIFEST_NAME, Bundle
from dlm_runtime.dialogue.prompt import PromptBuilder
from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.dialogue.template import ChatTemplate
from dlm_runtime.dialogue.tokens import Tokens
from dlm_runtime.engines.choose import EngineChoice, open_engine
from dlm_runtime.errors import BundleError
from dlm_runtime.policies import check_servable
from dlm_runtime.scheduler import Scheduler
from dlm_runtime.service.server import Address, NpcServer
from dlm_runtime.service.speaker import Speaker

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerOptions:
    """What to serve, on which engine and where. `threads` None leaves the choice to the engine."""

    bundle: Path
    characters: Path
    address: Address = field(default_factory=Address)
    engine: EngineChoice = "cpu"
    threads: int | None = None
    max_rows: int = 64
    max_waiting: int = 256
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"{self.threads=} must be at least 1")
        if self.max_rows < 1 or self.max_waiting < 1:
            raise ValueError(f"{self.max_rows=} and {self.max_waiting=} must be at least 1")
        if not self.drain_s >= 0:
            raise ValueError(f"{self.drain_s=} must be at least 0")


def load_speaker(options: ServerOptions) -> tuple[Speaker, Scheduler]:
    """Load content and model; the scheduler is not started yet. Blocks. Raises `BundleError`, `CharacterError` or `EngineError`."""
    roster = Roster.load(options.characters)
    bundle = Bundle.load(options.bundle)
    check_servable(bundle.manifest, bundle.path / MANIFEST_NAME)
    tokens, prompts = load_prompts(bundle)
    chosen = open_engine(bundle, options.engine, options.threads)
    _log.info(chosen.why)
    scheduler = Scheduler(chosen.engine, max_rows=options.max_rows, max_waiting=options.max_waiting)
    model_sha256 = bundle.manifest.files.get(bundle.manifest.targets[0].file, "")
    return Speaker(bundle.manifest, roster, tokens, prompts, scheduler, model_sha256), scheduler


def load_prompts(bundle: Bundle) -> tuple[Tokens, PromptBuilder]:
    """Tokenizer and prompt builder of a bundle. Raises `BundleError` when it has no tokenizer that fits the model, or no chat template."""
    remedy = "Dialogue needs one: export the bundle from a checkpoint that has it."
    if bundle.tokenizer_path is None:
        raise BundleError(bundle.path, "holds no tokenizer.json", remedy)
    if not bundle.manifest.chat_template:
        raise BundleError(bundle.path / MANIFEST_NAME, "has no chat_template", remedy)
    tokens = Tokens.from_file(bundle.tokenizer_path)
    if tokens.vocab_size > bundle.manifest.vocab_size:
        problem = f"knows {tokens.vocab_size} tokens, the model {bundle.manifest.vocab_size}"
        raise BundleError(bundle.tokenizer_path, problem, "They do not belong together: export the bundle anew with `dlm-export`.")
    return tokens, PromptBuilder(tokens, ChatTemplate(bundle.manifest.chat_template), bundle.manifest.max_context)


Loader = Callable[[ServerOptions], tuple[Speaker, Scheduler]]


async def run_server(
    options: ServerOptions,
    stop: asyncio.Event,
    on_serving: Callable[[Address, Speaker], None],
    load: Loader | None = None,
) -> None:
    """Load, listen, warm up, call `on_serving`, and serve until `stop` is set; then drain. Raises `DlmError` when it cannot serve.

    `load` stands in for `load_speaker`, for servers around another engine.
    """
    speaker, scheduler = await asyncio.to_thread(load or load_speaker, options)
    server = NpcServer(speaker, options.address)
    try:
        address = await server.listen()
        scheduler.start()
        await server.serve()
        if not stop.is_set():
            on_serving(address, speaker)
        await stop.wait()
    finally:
        try:
            await server.stop(options.drain_s)
        finally:  # the engine's thread must have ended before the process does, even when the drain is cancelled
            await asyncio.to_thread(scheduler.close, 0.0)
