"""A small tavern: two characters, a byte-level tokenizer trained on the spot, an engine without a model, and a real gRPC channel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import grpc
import pytest
from dlm_npc.v1 import dialogue_pb2_grpc, world_pb2_grpc
from dlm_npc.v1.dialogue_pb2 import SpeakRequest
from dlm_npc.v1.line_pb2 import Line
from dlm_npc.v1.line_spec_pb2 import LineSpec
from dlm_runtime.dialogue.character import Character
from dlm_runtime.dialogue.prompt import PromptBuilder
from dlm_runtime.dialogue.roster import Roster
from dlm_runtime.dialogue.session import SessionStore
from dlm_runtime.dialogue.template import ChatTemplate
from dlm_runtime.dialogue.tokens import Tokens
from dlm_runtime.engines import FakeEngine, StepBatch, fake_manifest
from dlm_runtime.scheduler import Scheduler
from dlm_runtime.service.server import Address, NpcServer
from dlm_runtime.service.speaker import Speaker
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PAD, MASK, END, CARD, PLAYER, NPC = range(6)
CONTROL_TOKENS = ["<|pad|>", "<|mask|>", "<|end|>", "<|card|>", "<|player|>", "<|npc|>"]
TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}<|card|>{{ m.content }}"
    "{% elif m.role == 'user' %}<|player|>{{ m.content }}"
    "{% else %}<|npc|>{{ m.content }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|npc|>{% endif %}"
)
TORVEK = {
    "id": "torvek",
    "name": "Torvek",
    "trade": "smith",
    "voice": "gruff",
    "mood": "calm",
    "facts": {"home": "Kelmar", "sells": {"rope": 7}},
}
VANMI = {"id": "vanmi", "name": "Vanmi", "trade": "baker", "facts": {"kin": "brother Torvek"}}


@cache
def tokenizer_json() -> str:
    """A byte-level BPE of a few hundred tokens; ids 0 to 5 are the control tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=CONTROL_TOKENS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(
        ["Seven coins for the rope, stranger.", "name: Torvek", "trade: smith", "How much for the rope?"], trainer
    )
    return tokenizer.to_str()


def replies(tokens: Tokens) -> Callable[[Sequence[int]], int]:
    """A script for the fake engine: an answer of a few words that depends on every token of the prompt."""
    answers: dict[tuple[int, ...], tuple[int, ...]] = {}

    def next_token(ids: Sequence[int]) -> int:
        if NPC not in ids:
            return END  # the engine asks at every position of the prompt too
        start = len(ids) - list(reversed(ids)).index(NPC)
        prompt = tuple(ids[:start])
        if prompt not in answers:
            number = sum(index * token for index, token in enumerate(prompt, 1)) % 90 + 10
            answers[prompt] = tokens.encode_content(f"That is {number} coins for the rope. Take it.")
        answer = answers[prompt]
        said = len(ids) - start
        return answer[said] if said < len(answer) else END

    return next_token


@dataclass
class Stage:
    """A running server and what a test needs to look behind the scenes."""

    server: NpcServer
    speaker: Speaker
    scheduler: Scheduler
    engine: FakeEngine
    address: Address
    channel: grpc.aio.Channel
    dialogue: dialogue_pb2_grpc.DialogueServiceStub = field(init=False)
    world: world_pb2_grpc.WorldServiceStub = field(init=False)

    def __post_init__(self) -> None:
        self.dialogue = dialogue_pb2_grpc.DialogueServiceStub(self.channel)
        self.world = world_pb2_grpc.WorldServiceStub(self.channel)

    async def speak(self, player_text: str = "How much for the rope?", character_id: str = "torvek", **fields: object) -> Line:
        """One line over the channel; `fields` are those of LineSpec."""
        spec = LineSpec(character_id=character_id, player_text=player_text, **fields)  # pyright: ignore[reportArgumentType]
        return (await self.dialogue.Speak(SpeakRequest(line=spec))).line

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until `condition` holds; a test that waits in vain fails after ten seconds."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def until_idle(self) -> None:
        """Until no line runs or waits and no call is inside."""
        await self.until(lambda: self.server.gate.inside == 0 and not (stats := self.scheduler.stats()).running and not stats.waiting)


Play = Callable[[Stage], Awaitable[None]]


@dataclass
class Tavern:
    """Runs a test's play on a fresh stage, and sees to it that nothing is left when the curtain falls."""

    before_step: Callable[[StepBatch], None] | None = None
    max_rows: int = 64
    max_waiting: int = 256
    max_context: int = 512
    serve: bool = True
    script: Callable[[Sequence[int]], int] | None = None

    def play(self, play: Play) -> None:
        asyncio.run(self._play(play))

    async def _play(self, play: Play) -> None:
        stage = await self._build()
        try:
            await play(stage)
            await stage.until_idle()
        finally:
            await stage.channel.close()
            await stage.server.stop(drain_s=5)
            await asyncio.to_thread(stage.scheduler.close, 0.0)
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not _is_grpc_poller(task)]
        assert not others

    def load(self) -> tuple[Speaker, Scheduler, FakeEngine]:
        """Everything but the server; the scheduler is not started."""
        tokens = Tokens(tokenizer_json())
        banned = (PAD, CARD, PLAYER, NPC)
        manifest = fake_manifest(tokens.vocab_size, 8, MASK, (END,), banned, self.max_context, TEMPLATE)
        engine = FakeEngine(manifest, self.script or replies(tokens), wrong_every=0)
        scheduler = Scheduler(engine, max_rows=self.max_rows, max_waiting=self.max_waiting)
        roster = Roster([Character.model_validate(TORVEK), Character.model_validate(VANMI)])
        prompts = PromptBuilder(tokens, ChatTemplate(TEMPLATE), self.max_context)
        sessions = SessionStore(max_conversations=8, max_turns=4)
        return Speaker(manifest, roster, tokens, prompts, scheduler, "ab" * 32, sessions), scheduler, engine

    async def _build(self) -> Stage:
        speaker, scheduler, engine = self.load()
        server = NpcServer(speaker)
        address = await server.listen()
        scheduler.start()
        if self.serve:
            await server.serve()
        engine.before_step = self.before_step  # the warm-up runs free
        return Stage(server, speaker, scheduler, engine, address, grpc.aio.insecure_channel(str(address)))


def _is_grpc_poller(task: asyncio.Task[object]) -> bool:
    """gRPC keeps a task of its own per event loop."""
    return "grpc" in repr(task.get_coro())


@pytest.fixture
def tavern() -> type[Tavern]:
    """`tavern().play(coroutine_function)`; options are fields of Tavern."""
    return Tavern


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(tokenizer_json())


@pytest.fixture
def prompts(tokens: Tokens) -> Callable[[int], PromptBuilder]:
    """A prompt builder for a context of so many tokens."""
    return lambda max_context: PromptBuilder(tokens, ChatTemplate(TEMPLATE), max_context)


@pytest.fixture
def torvek() -> Character:
    return Character.model_validate(TORVEK)


@pytest.fixture
def tokenizer() -> str:
    """The text of a tokenizer.json."""
    return tokenizer_json()


@pytest.fixture
def template() -> str:
    """The tavern's chat template."""
    return TEMPLATE
