"""Clients that leave, servers that come and go: nothing is left behind and nobody is left in the dark."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from dlm_npc.v1 import dialogue_pb2_grpc
from dlm_npc.v1.dialogue_pb2 import SpeakRequest, SpeakStreamRequest
from dlm_npc.v1.line_spec_pb2 import LineSpec
from dlm_runtime.scheduler import Accepted, Draft, Finished, LineEvent
from dlm_runtime.service.launch import ServerOptions, run_server
from dlm_runtime.service.mailbox import Mailbox
from dlm_runtime.service.server import ListenError, NpcServer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

if TYPE_CHECKING:
    from conftest import Stage, Tavern

SPEC = LineSpec(character_id="torvek", player_text="How much for the rope?")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Hold:
    """An engine that stands still until it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.reached = threading.Event()

    def __call__(self, batch: object) -> None:
        self.reached.set()
        assert self.release.wait(10)


async def health(stage: Stage, service: str = "") -> int:
    answer = await health_pb2_grpc.HealthStub(stage.channel).Check(health_pb2.HealthCheckRequest(service=service))
    return answer.status


def test_a_cancelled_stream_frees_its_row(tavern: type[Tavern]) -> None:
    hold = Hold()

    async def play(stage: Stage) -> None:
        call = stage.dialogue.SpeakStream(SpeakStreamRequest(line=SPEC))
        assert (await call.read()).WhichOneof("event") == "accepted"
        await stage.until(hold.reached.is_set)
        call.cancel()
        await stage.until(lambda: stage.server.gate.inside == 0)  # at once, although the engine stands still
        hold.release.set()
        await stage.until(lambda: stage.scheduler.stats().cancelled == 1)

    tavern(before_step=hold).play(play)


def test_a_client_that_vanishes_frees_its_row(tavern: type[Tavern]) -> None:
    hold = Hold()

    async def play(stage: Stage) -> None:
        channel = own_channel(stage)
        call = dialogue_pb2_grpc.DialogueServiceStub(channel).Speak(SpeakRequest(line=SPEC))
        await stage.until(lambda: stage.scheduler.stats().running == 1)
        await channel.close()
        assert call.cancelled()
        await stage.until(lambda: stage.server.gate.inside == 0)
        hold.release.set()
        await stage.until(lambda: stage.scheduler.stats().cancelled == 1)

    tavern(before_step=hold).play(play)


def test_the_deadline_of_a_call_is_honoured(tavern: type[Tavern]) -> None:
    hold = Hold()

    async def play(stage: Stage) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stage.dialogue.Speak(SpeakRequest(line=SPEC), timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await stage.until(lambda: stage.server.gate.inside == 0)
        hold.release.set()
        await stage.until(lambda: stage.scheduler.stats().cancelled == 1)

    tavern(before_step=hold).play(play)


def test_200_clients_that_come_and_go_leave_nothing_behind(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        await visit(stage, 1)
        await stage.until_idle()
        tasks_before = len(asyncio.all_tasks())
        for start in range(0, 200, 40):
            await asyncio.gather(*(visit(stage, number) for number in range(start, start + 40)))
        await stage.until_idle()
        await stage.until(lambda: len(asyncio.all_tasks()) <= tasks_before)
        gc.collect()
        left = [thing for thing in gc.get_objects() if type(thing) is Mailbox]
        assert len(left) <= 16  # no more than the rows of the engine's last step, which its thread still names
        stats = stage.scheduler.stats()
        assert stats.accepted == stats.finished + stats.cancelled
        assert stats.failed == 0
        assert len(stage.speaker.sessions) <= 8

    tavern(max_rows=16).play(play)


async def visit(stage: Stage, number: int) -> None:
    """A client with a connection of its own; two of three hang up in the middle of a line."""
    channel = own_channel(stage)
    spec = LineSpec(character_id="torvek", player_text=f"Number {number}?", session_id=f"s{number}")
    call = dialogue_pb2_grpc.DialogueServiceStub(channel).SpeakStream(SpeakStreamRequest(line=spec))
    async for event in call:
        if number % 3 == 1 and event.WhichOneof("event") == "accepted":
            call.cancel()
            break
        if number % 3 == 2 and event.WhichOneof("event") == "draft":
            break  # closes the connection without a word
    await channel.close()


def own_channel(stage: Stage) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(str(stage.address), options=[("grpc.use_local_subchannel_pool", 1)])


def test_a_server_that_warms_up_says_so(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        assert await health(stage) == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stage.speak()
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the server is warming up; try again soon")
        assert dict(caught.value.trailing_metadata())["retry-after-ms"] == "500"
        await stage.server.serve()
        assert await health(stage) == SERVING
        assert await health(stage, "dlm_npc.v1.DialogueService") == SERVING
        assert (await stage.speak()).text

    tavern(serve=False).play(play)


def test_a_graceful_shutdown_finishes_running_lines(tavern: type[Tavern]) -> None:
    hold = Hold()

    async def play(stage: Stage) -> None:
        calls = [stage.dialogue.Speak(SpeakRequest(line=SPEC)) for _ in range(5)]
        await stage.until(lambda: stage.server.gate.inside == 5)
        stopping = asyncio.create_task(stage.server.stop(drain_s=10))
        await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stage.speak()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in (caught.value.details() or "")
        assert await health(stage) == NOT_SERVING
        hold.release.set()
        assert all([(await call).line.text for call in calls])
        assert await stopping is True

    tavern(before_step=hold).play(play)


def test_a_drain_that_takes_too_long_is_cut_off_with_a_reason(tavern: type[Tavern]) -> None:
    hold = Hold()

    async def play(stage: Stage) -> None:
        call = stage.dialogue.Speak(SpeakRequest(line=SPEC))
        await stage.until(lambda: stage.server.gate.inside == 1)
        assert await stage.server.stop(drain_s=0.01) is False
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "the server shut down before the line was whole"
        hold.release.set()

    tavern(before_step=hold).play(play)


def test_a_drain_that_is_cancelled_cuts_off_and_ends_the_engines_thread(tavern: type[Tavern]) -> None:
    hold = Hold()

    async def run() -> None:
        speaker, scheduler, engine = tavern().load()
        serving: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        options = ServerOptions(bundle=Path("no-bundle"), characters=Path("no-characters"), drain_s=60)
        server = asyncio.create_task(
            run_server(options, stop, lambda address, _: serving.set_result(str(address)), lambda _: (speaker, scheduler))
        )
        async with grpc.aio.insecure_channel(await serving) as channel:
            engine.before_step = hold
            call = dialogue_pb2_grpc.DialogueServiceStub(channel).Speak(SpeakRequest(line=SPEC))
            await asyncio.to_thread(hold.reached.wait, 10)
            stop.set()
            await asyncio.sleep(0)  # the drain begins
            server.cancel()
            with pytest.raises(grpc.aio.AioRpcError, match="the server shut down before the line was whole"):
                await call
        hold.release.set()
        with pytest.raises(asyncio.CancelledError):
            await server
        assert "dlm-scheduler" not in [thread.name for thread in threading.enumerate()]

    asyncio.run(run())


def test_reflection_lists_the_services(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(stage.channel).ServerReflectionInfo(iter([ask]))
        answers = [answer async for answer in call]
        names = {service.name for service in answers[0].list_services_response.service}
        assert {"dlm_npc.v1.DialogueService", "dlm_npc.v1.WorldService", "grpc.health.v1.Health"} <= names

    tavern().play(play)


def test_a_port_in_use_is_refused(tavern: type[Tavern]) -> None:
    async def play(stage: Stage) -> None:
        second = NpcServer(stage.speaker, stage.address)
        with pytest.raises(ListenError, match=f"cannot listen on {stage.address}: choose another --port"):
            await second.listen()

    tavern().play(play)


def test_a_mailbox_keeps_the_latest_draft_only() -> None:
    async def read() -> list[LineEvent]:
        mailbox = Mailbox(asyncio.get_running_loop())
        mailbox.post(Accepted(0))
        for number in range(1000):
            mailbox.post(Draft((number,), (True,)))
        mailbox.post(Finished(result=None))  # pyright: ignore[reportArgumentType]
        events = [await mailbox.next() for _ in range(3)]
        assert mailbox.revision == 1000
        return events

    events = asyncio.run(read())
    assert [type(event) for event in events] == [Accepted, Draft, Finished]
    assert events[1] == Draft((999,), (True,))
