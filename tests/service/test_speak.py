"""Speak and SpeakStream through a real channel: what a client gets when all is well."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from dlm_npc.v1 import dialogue_pb2, line_pb2, mode_pb2, world_pb2
from dlm_npc.v1.line_spec_pb2 import LineSpec
from dlm_npc.v1.turn_pb2 import Turn
from dlm_runtime.scheduler import Finished, LineEvent, Listener

if TYPE_CHECKING:
    from conftest import Stage, Tavern

MODES = (mode_pb2.MODE_DIFFUSION, mode_pb2.MODE_SELF_SPECULATION, mode_pb2.MODE_AR)


@pytest.mark.parametrize("mode", MODES)
def test_speak_answers_with_a_whole_line(tavern: type[Tavern], mode: mode_pb2.Mode) -> None:
    async def play(stage: Stage) -> None:
        line = await stage.speak(mode=mode, seed=7, request_id="r-1")
        assert line.text.startswith("That is ")
        assert line.text.endswith(" coins for the rope. Take it.")
        assert (line.request_id, line.character_id, line.mode, line.seed) == ("r-1", "torvek", mode, 7)
        assert line.finish_reason == line_pb2.FINISH_REASON_END
        assert line.tokens == len(stage.speaker.tokens.encode_content(line.text)) + 1
        assert line.forwards > 0
        assert line.prompt_tokens > 0
        assert 0 <= line.timings.queue_ms <= line.timings.total_ms
        assert line.timings.prefill_ms <= line.timings.total_ms
        assert line.model_sha256 == "ab" * 32

    tavern().play(play)


def test_defaults_are_filled_in(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        line = await stage.speak()
        assert line.mode == mode_pb2.MODE_DIFFUSION
        assert len(line.request_id) == 32

    tavern().play(play)


def test_a_stream_is_accepted_then_drafts_then_final(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        spec = LineSpec(character_id="torvek", player_text="How much for the rope?", request_id="r-2")
        call = stage.dialogue.SpeakStream(dialogue_pb2.SpeakStreamRequest(line=spec))
        events = [event async for event in call]
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds[0] == "accepted"
        assert kinds[-1] == "final"
        assert set(kinds[1:-1]) == {"draft"}
        assert events[0].accepted.request_id == events[-1].final.request_id == "r-2"
        assert events[0].accepted.prompt_tokens == events[-1].final.prompt_tokens
        check_drafts([event.draft for event in events[1:-1]], events[-1].final.text)
        assert await call.code() is grpc.StatusCode.OK
        assert events[-1].final.text == (await stage.speak()).text

    tavern().play(play)


def check_drafts(drafts: list[line_pb2.LineDraft], final_text: str) -> None:
    revisions = [draft.revision for draft in drafts]
    assert revisions == sorted(set(revisions))
    assert revisions[0] >= 1
    for draft in drafts:
        assert draft.text == "".join(piece.text for piece in draft.pieces)
        if draft.pieces and draft.pieces[0].frozen:
            assert final_text.startswith(draft.pieces[0].text)
        for piece in draft.pieces:
            assert not piece.frozen or piece.text in final_text


def test_a_stream_without_drafts(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        spec = LineSpec(character_id="torvek", player_text="Hello.")
        call = stage.dialogue.SpeakStream(dialogue_pb2.SpeakStreamRequest(line=spec, omit_drafts=True))
        assert [event.WhichOneof("event") async for event in call] == ["accepted", "final"]

    tavern().play(play)


def test_limits_shape_the_line(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        whole = await stage.speak()
        by_chars = await stage.speak(max_chars=len(whole.text) - 1)
        assert by_chars.finish_reason == line_pb2.FINISH_REASON_MAX_CHARS
        assert by_chars.text == whole.text.removesuffix(" Take it.")
        by_tokens = await stage.speak(max_new_tokens=3)
        assert by_tokens.finish_reason == line_pb2.FINISH_REASON_MAX_TOKENS
        assert whole.text.startswith(by_tokens.text)
        assert by_tokens.tokens == 3

    tavern().play(play)


def test_the_fallback_is_spoken_when_the_model_says_nothing(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        line = await stage.speak(fallback_text="Hm?")
        assert (line.text, line.finish_reason) == ("Hm?", line_pb2.FINISH_REASON_FALLBACK)
        assert (await stage.speak()).text == ""

    tavern(script=lambda ids: 2).play(play)


def test_a_session_remembers_and_equals_history_sent_along(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        first = await stage.speak("Hello.", session_id="s")
        second = await stage.speak("And the rope?", session_id="s")
        by_hand = await stage.speak("And the rope?", history=[Turn(player_text="Hello.", line_text=first.text)])
        alone = await stage.speak("And the rope?")
        assert (second.text, second.prompt_tokens) == (by_hand.text, by_hand.prompt_tokens)
        assert second.prompt_tokens > alone.prompt_tokens
        other = await stage.speak("And the rope?", "vanmi", session_id="s")
        assert other.text == (await stage.speak("And the rope?", "vanmi")).text

    tavern().play(play)


def test_the_same_request_gives_the_same_line_alone_and_among_63_others(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        for mode in MODES:
            alone = await stage.speak(mode=mode)
            others = [stage.speak(f"Number {index}?", "vanmi" if index % 2 else "torvek", mode=MODES[index % 3]) for index in range(63)]
            lines = await asyncio.gather(stage.speak(mode=mode), *others)
            assert lines[0].text == alone.text
            assert len({line.text for line in lines[1:]}) > 10

    tavern().play(play)


def test_waiting_lines_begin_when_due_then_by_priority(tavern: type[Tavern]) -> None:
    release = threading.Event()
    wishes = [{}, {}, {"priority": 5}, {"budget_ms": 9000}, {"budget_ms": 3000}]

    async def play(stage: Stage) -> None:
        ended: list[int] = []
        submit = stage.scheduler.submit

        def note(event: LineEvent, listener: Listener) -> None:
            if isinstance(event, Finished):
                ended.append(event.result.seed)
            listener(event)

        # Noted on the engine's thread: answers over the network may overtake each other.
        stage.scheduler.submit = lambda request, listener: submit(request, lambda event: note(event, listener))
        async with asyncio.TaskGroup() as group:
            for seed, wish in enumerate(wishes):
                group.create_task(stage.speak(seed=seed, **wish))
                await stage.until(lambda seed=seed: sum(_open(stage)) == seed + 1)
            await stage.until(lambda: _open(stage)[0] == 1)
            release.set()
        assert ended == [0, 4, 3, 2, 1]

    tavern(before_step=lambda batch: release.wait(10), max_rows=1).play(play)


def _open(stage: Stage) -> tuple[int, int]:
    stats = stage.scheduler.stats()
    return stats.running, stats.waiting


def test_a_slow_reader_gets_the_final_line(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        spec = LineSpec(character_id="torvek", player_text="How much?", mode=mode_pb2.MODE_AR)
        call = stage.dialogue.SpeakStream(dialogue_pb2.SpeakStreamRequest(line=spec))
        events = aiter(call)
        assert (await anext(events)).WhichOneof("event") == "accepted"
        await stage.until(lambda: stage.scheduler.stats().running == 0)
        rest = [event async for event in events]
        assert rest[-1].WhichOneof("event") == "final"

    tavern().play(play)


def test_characters_are_listed_by_id(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        answer = await stage.world.ListCharacters(world_pb2.ListCharactersRequest())
        assert [character.id for character in answer.characters] == ["torvek", "vanmi"]
        assert answer.characters[0] == world_pb2.Character(id="torvek", name="Torvek", trade="smith", voice="gruff", mood="calm")

    tavern().play(play)
