"""Talking to the server: one player after the other, and all players at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dlm_runtime.client.aio import AsyncNpcClient
from dlm_runtime.client.results import Draft, Line, Mode
from dlm_runtime.demo.crowd import Encounter

OnDraft = Callable[[int, Draft | Line], None]


@dataclass(frozen=True)
class Spoken:
    """A finished line and how long the player waited for the whole of it, over gRPC, in milliseconds."""

    encounter: Encounter
    line: Line
    latency_ms: float


@dataclass(frozen=True)
class Round:
    """Lines spoken under one condition. `wall_s` runs from the first request to the last finished line."""

    spoken: tuple[Spoken, ...]
    wall_s: float


async def one_by_one(client: AsyncNpcClient, encounters: Sequence[Encounter], mode: Mode, threshold: float) -> Round:
    """Each player waits for the one before to get an answer."""
    started = time.perf_counter()
    spoken = [await _speak(client, encounter, mode, threshold) for encounter in encounters]
    return Round(tuple(spoken), time.perf_counter() - started)


async def all_at_once(client: AsyncNpcClient, encounters: Sequence[Encounter], mode: Mode, threshold: float) -> Round:
    """All players speak in the same moment."""
    started = time.perf_counter()
    spoken = await asyncio.gather(*(_speak(client, encounter, mode, threshold) for encounter in encounters))
    return Round(tuple(spoken), time.perf_counter() - started)


async def watched(client: AsyncNpcClient, encounters: Sequence[Encounter], threshold: float, on_draft: OnDraft) -> None:
    """All at once by diffusion, streamed; `on_draft(index, event)` sees every draft and the final line."""

    async def watch(index: int, encounter: Encounter) -> None:
        stream = client.stream(encounter.character_id, encounter.player_text, mode="diffusion", threshold=threshold)
        async for event in stream:
            if isinstance(event, Draft | Line):
                on_draft(index, event)

    await asyncio.gather(*(watch(index, encounter) for index, encounter in enumerate(encounters)))


async def _speak(client: AsyncNpcClient, encounter: Encounter, mode: Mode, threshold: float) -> Spoken:
    started = time.perf_counter()
    line = await client.speak(encounter.character_id, encounter.player_text, mode=mode, threshold=threshold)
    return Spoken(encounter, line, (time.perf_counter() - started) * 1000)
