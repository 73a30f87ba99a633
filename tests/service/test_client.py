"""The Python clients, against a server on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from dlm_runtime.client import Accepted, AsyncNpcClient, CharacterInfo, Draft, Line, NpcClient, NpcError
from dlm_runtime.service.background import BackgroundServer
from dlm_runtime.service.launch import ServerOptions

if TYPE_CHECKING:
    from conftest import Tavern

NOWHERE = ServerOptions(bundle=Path("no-bundle"), characters=Path("no-characters"))

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "python"


@pytest.fixture
def server(tavern: type[Tavern]) -> Iterator[BackgroundServer]:
    with BackgroundServer(NOWHERE, load=lambda options: tavern().load()[:2]) as running:
        yield running


def test_the_plain_client(server: BackgroundServer) -> None:
    with NpcClient(str(server.address)) as npc:
        line = npc.speak("torvek", "How much for the rope?", mode="ar", seed=3, request_id="r", history=[("Hello.", "Aye.")])
        assert isinstance(line, Line)
        assert line.text
        assert (line.mode, line.seed, line.request_id, line.finish_reason) == ("ar", 3, "r", "end")
        events = list(npc.stream("torvek", "How much for the rope?", history=[("Hello.", "Aye.")]))
        assert isinstance(events[0], Accepted)
        assert events[0].history_turns == 1
        assert all(isinstance(event, Draft) for event in events[1:-1])
        assert isinstance(events[-1], Line)
        assert events[-1].text == line.text
        assert npc.characters()[0] == CharacterInfo("torvek", "Torvek", "smith", "gruff", "calm")


def test_errors_have_code_field_and_message(server: BackgroundServer) -> None:
    with NpcClient(str(server.address)) as npc:
        with pytest.raises(NpcError, match=r"NOT_FOUND: line\.character_id: 'torvic': did you mean torvek") as caught:
            npc.speak("torvic", "Hello.")
        assert (caught.value.code, caught.value.field) == (grpc.StatusCode.NOT_FOUND, "line.character_id")
        assert caught.value.retry_after_ms is None
        with pytest.raises(NpcError, match=r"line\.player_text"):
            list(npc.stream("torvek", ""))
        with pytest.raises(ValueError, match="mode='loud' must be one of diffusion, self_speculation, ar"):
            npc.speak("torvek", "Hello.", mode="loud")  # pyright: ignore[reportArgumentType]


def test_a_server_that_is_not_there() -> None:
    with NpcClient("127.0.0.1:1") as npc, pytest.raises(NpcError) as caught:
        npc.speak("torvek", "Hello.")
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_loop_left_early_frees_the_row(tavern: type[Tavern]) -> None:
    release = threading.Event()
    speaker, scheduler, engine = tavern().load()
    with BackgroundServer(NOWHERE, load=lambda options: (speaker, scheduler)) as server, NpcClient(str(server.address)) as npc:
        engine.before_step = lambda batch: _wait(release)
        events = npc.stream("torvek", "How much?")
        assert isinstance(next(events), Accepted)
        events.close()  # pyright: ignore[reportAttributeAccessIssue]
        release.set()
        assert npc.speak("torvek", "How much?").text
    assert (scheduler.stats().running, scheduler.stats().waiting) == (0, 0)


def test_the_asyncio_client(server: BackgroundServer) -> None:
    async def talk() -> None:
        async with AsyncNpcClient(str(server.address)) as npc:
            lines = await asyncio.gather(*(npc.speak("torvek", f"Number {index}?") for index in range(8)))
            assert len({line.text for line in lines}) > 1
            events = [event async for event in npc.stream("torvek", "Number 3?")]
            assert isinstance(events[-1], Line)
            assert events[-1].text == lines[3].text
            assert len(await npc.characters()) == 2
            with pytest.raises(NpcError, match="INVALID_ARGUMENT"):
                await npc.speak("torvek", " ")

    asyncio.run(talk())


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_the_samples_run(server: BackgroundServer, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = sample.read_text(encoding="utf-8")
    assert "127.0.0.1:50051" in source
    exec(compile(source.replace("127.0.0.1:50051", str(server.address)), sample, "exec"), {})
    assert "coins for the rope" in capsys.readouterr().out


def test_a_server_that_cannot_start_raises_where_it_was_entered() -> None:
    with pytest.raises(Exception, match="no-characters: folder: not a folder"), BackgroundServer(NOWHERE):
        raise AssertionError("entered")


def _wait(release: threading.Event) -> None:
    assert release.wait(10)
