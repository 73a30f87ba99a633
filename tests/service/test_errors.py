"""What a client is told when a request is at fault: the code, the field and how to mend it."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from dlm_npc.v1.dialogue_pb2 import SpeakRequest, SpeakStreamRequest
from dlm_npc.v1.line_spec_pb2 import LineSpec
from dlm_npc.v1.turn_pb2 import Turn
from dlm_runtime.errors import DlmError, EngineError
from dlm_runtime.service.order import check_order
from dlm_runtime.service.status import STATUS_CODES

if TYPE_CHECKING:
    from conftest import Stage, Tavern

INVALID = grpc.StatusCode.INVALID_ARGUMENT
GOOD = {"character_id": "torvek", "player_text": "Hello."}


async def failure(call: grpc.aio.UnaryUnaryCall) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def trailing(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    return dict(error.trailing_metadata())


CASES = [
    ({"player_text": ""}, INVALID, "line.player_text: '': send at least one character"),
    ({"player_text": " \n\x00"}, INVALID, "line.player_text: ' \\n\\x00': send at least one character"),
    ({"player_text": "\u200d"}, INVALID, "line.player_text: '\\u200d': send at least one character"),
    ({"player_text": "x" * 2001}, INVALID, "line.player_text: 2001 characters: send at most 2000"),
    ({"player_text": "z " * 600}, INVALID, "line.player_text: 1199 tokens: shorten it to at most "),
    ({"character_id": ""}, INVALID, "line.character_id: '': name the character that shall answer"),
    ({"character_id": "torvec"}, grpc.StatusCode.NOT_FOUND, "line.character_id: 'torvec': did you mean torvek?"),
    ({"character_id": "zzz"}, grpc.StatusCode.NOT_FOUND, "line.character_id: 'zzz': WorldService.ListCharacters lists all 2 ids"),
    ({"character_id": "x" * 65}, INVALID, "line.character_id: 65 characters: send at most 64"),
    ({"request_id": "a b"}, INVALID, "line.request_id: 'a b': use at most 64 characters"),
    ({"session_id": "é"}, INVALID, "line.session_id: 'é': use at most 64 characters"),
    ({"mode": 9}, INVALID, "line.mode: 9: this bundle offers MODE_DIFFUSION (1), MODE_SELF_SPECULATION (2), MODE_AR (3)"),
    ({"budget_ms": -1}, INVALID, "line.budget_ms: -1: give a number from 0 to 600000"),
    ({"priority": 101}, INVALID, "line.priority: 101: give a number from -100 to 100"),
    ({"max_chars": -5}, INVALID, "line.max_chars: -5: give a number from 0 to 4000"),
    ({"max_new_tokens": 1025}, INVALID, "line.max_new_tokens: 1025: give a number from 0 to 1024"),
    ({"max_new_tokens": 511}, INVALID, "line.max_new_tokens: 511: the card of torvek takes "),
    ({"threshold": math.nan}, INVALID, "line.threshold: nan: give a number from 0.0 to 1.0"),
    ({"threshold": 1.5}, INVALID, "line.threshold: 1.5: give a number from 0.0 to 1.0"),
    ({"temperature": math.inf}, INVALID, "line.temperature: inf: give a number from 0.0 to 2.0"),
    ({"top_k": -1}, INVALID, "line.top_k: -1: give a number from 0 to 2048"),
    ({"top_p": 1.01}, INVALID, "line.top_p: 1.0099999904632568: give a number from 0.0 to 1.0"),
    ({"repetition_penalty": math.nan}, INVALID, "line.repetition_penalty: nan: give a number from 0.0 to 10.0"),
    ({"guidance": -1.0}, INVALID, "line.guidance: -1.0: give a number from 0.0 to 10.0"),
    ({"guidance": 1.0}, INVALID, "line.guidance: 1.0: give 0: the loop "),
    ({"sampler": "b c"}, INVALID, "line.sampler: 'b c': use at most 64 characters"),
    ({"sampler": "nonesuch"}, INVALID, "line.sampler: 'nonesuch': this model can be decoded with "),
    ({"seed": -1}, INVALID, "line.seed: -1: give a number from 0 to 2147483646"),
    ({"fallback_text": "x" * 2001}, INVALID, "line.fallback_text: 2001 characters: send at most 2000"),
    ({"history": [Turn(player_text="Hi.")]}, INVALID, "line.history[0].line_text: '': send at least one character"),
    ({"history": [Turn(player_text="Hi.", line_text="Aye.")] * 65}, INVALID, "line.history: 65 turns: send the latest 64 at most"),
    ({"history": [Turn(player_text="Hi.", line_text="Aye.")], "session_id": "s"}, INVALID, "line.history: 1 turns: leave it empty when"),
]


@pytest.mark.parametrize(("fields", "code", "message"), CASES, ids=[case[2][:40] for case in CASES])
def test_a_request_at_fault_is_told_where_and_how(tavern: type[Tavern], fields: dict, code: grpc.StatusCode, message: str) -> None:
    async def play(stage: Stage) -> None:
        spec = LineSpec(**{**GOOD, **fields})
        for method in (stage.dialogue.Speak, lambda request: stage.dialogue.SpeakStream(SpeakStreamRequest(line=request.line)).read()):
            error = await failure(method(SpeakRequest(line=spec)))
            assert (error.code(), (error.details() or "")[: len(message)]) == (code, message)
            assert trailing(error)["error-field"] == message.split(":")[0]
        assert stage.scheduler.stats().accepted == len(stage.speaker.manifest.modes)  # the warm-up's lines, nothing else

    tavern().play(play)


@pytest.mark.parametrize(("sent", "meant"), [(0.0, None), (-0.0, None), (0.9, 0.9), (1e-9, 0.0)])
def test_only_zero_means_the_default_threshold(sent: float, meant: float | None) -> None:
    assert check_order(LineSpec(**GOOD, threshold=sent), ("diffusion",)).threshold == meant


@pytest.mark.parametrize(("sent", "meant"), [(0.0, 1.0), (-0.0, 1.0), (0.9, 0.9), (1e-9, 1e-6)])
def test_only_zero_means_no_limit_and_no_penalty(sent: float, meant: float) -> None:
    order = check_order(LineSpec(**GOOD, top_p=sent, repetition_penalty=sent), ("diffusion",))
    assert (order.top_p, order.repetition_penalty) == (meant, meant)


def test_an_empty_request_is_told_what_is_missing(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        error = await failure(stage.dialogue.Speak(SpeakRequest()))
        assert (error.code(), trailing(error)["error-field"]) == (INVALID, "line.character_id")

    tavern().play(play)


@pytest.mark.parametrize(
    ("data", "field", "message"),
    [
        (b"\x0a\x0a\x1a\x02hi\x22\x04ab\xff\xfe", "line.player_text", "line.player_text: b'ab\\xff\\xfe': encode text as UTF-8"),
        (
            b"\x0a\x10\x2a\x06\x0a\x01a\x12\x01b\x2a\x06\x0a\x01a\x12\x01\xe9",
            "line.history[1].line_text",
            "line.history[1].line_text: b'\\xe9': encode text as UTF-8",
        ),
        (b"\x0a\x0a\x1a\x02hi\x22\x04ab\xc3", "SpeakRequest", "SpeakRequest: 11 bytes: these bytes are not a dlm_npc.v1.SpeakRequest"),
        (b"\x0a\xff", "SpeakRequest", "SpeakRequest: 2 bytes: these bytes are not a dlm_npc.v1.SpeakRequest"),
        (b"\xff" * 30, "SpeakRequest", "SpeakRequest: 30 bytes: these bytes are not a dlm_npc.v1.SpeakRequest"),
    ],
)
def test_bytes_that_cannot_be_read_are_the_callers_fault(tavern: type[Tavern], data: bytes, field: str, message: str) -> None:
    async def play(stage: Stage) -> None:
        raw = stage.channel.unary_unary("/dlm_npc.v1.DialogueService/Speak")
        error = await failure(raw(data))
        assert error.code() is INVALID
        assert (error.details() or "").startswith(message)
        assert trailing(error)["error-field"] == field

    tavern().play(play)


def test_an_oversized_message_and_an_unknown_method_are_refused(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        error = await failure(stage.dialogue.Speak(SpeakRequest(line=LineSpec(player_text="x" * 2**20))))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        error = await failure(stage.channel.unary_unary("/dlm_npc.v1.DialogueService/Sing")(b""))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED

    tavern().play(play)


def test_a_full_queue_answers_at_once_with_a_hint(tavern: type[Tavern]) -> None:
    release = threading.Event()

    async def play(stage: Stage) -> None:
        held = [stage.dialogue.Speak(SpeakRequest(line=LineSpec(**GOOD))) for _ in range(2)]
        await stage.until(lambda: stage.server.gate.inside == 2)
        error = await failure(stage.dialogue.Speak(SpeakRequest(line=LineSpec(**GOOD))))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "too many lines are waiting" in (error.details() or "")
        assert int(trailing(error)["retry-after-ms"]) > 0
        release.set()
        assert all([(await call).line.text for call in held])

    tavern(before_step=lambda batch: _wait(release), max_rows=1, max_waiting=1).play(play)


def test_an_engine_that_fails_costs_its_own_lines_only(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        def fail(batch: object) -> None:
            raise EngineError("the card caught fire")

        stage.engine.before_step = fail
        error = await failure(stage.dialogue.Speak(SpeakRequest(line=LineSpec(**GOOD))))
        assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "the card caught fire")
        stage.engine.before_step = None
        assert (await stage.speak()).text

    tavern().play(play)


def test_a_fault_that_nobody_foresaw_does_not_leak(tavern: type[Tavern], monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: Stage) -> None:
        def explode(*arguments: object) -> None:
            raise ZeroDivisionError("a secret path")

        monkeypatch.setattr("dlm_runtime.service.dialogue.check_order", explode)
        error = await failure(stage.dialogue.Speak(SpeakRequest(line=LineSpec(**GOOD))))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert error.details() == "the server failed on this call (ZeroDivisionError); its log has the details"

    tavern().play(play)


def test_every_error_of_the_project_has_a_status() -> None:
    kinds = [DlmError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    missing = [kind for kind in kinds if not any(parent in STATUS_CODES for parent in kind.__mro__)]
    assert missing == []


def _wait(release: threading.Event) -> None:
    assert release.wait(10)
