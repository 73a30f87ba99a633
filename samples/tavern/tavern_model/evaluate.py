"""Evaluate an exported tavern bundle on villagers that training never met: `python -m tavern_model.evaluate bundle`.

Everything runs through the product's own way: bundle, ONNX engine, scheduler. A line is judged by its text alone: a fact counts as right
when the authored sentence it belongs to contains it verbatim, a line counts as exact when it is one of the sentences written for that
intent, voice and mood with all facts in place.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from dlm_runtime.bundle import Bundle, Mode
from dlm_runtime.engines import OnnxEngine
from dlm_runtime.scheduler import Failed, Finished, LineEvent, LineRequest, LineResult, Scheduler
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tokenizers import Tokenizer

from tavern_model import writing
from tavern_model.dialogue import Dialogue, Exchange
from tavern_model.samples import SampleMaker
from tavern_model.tokens import CARD
from tavern_model.world import Villager, World

ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Question:
    """A held-out villager, an exchange with him and the prompt's token ids."""

    villager: Villager
    exchange: Exchange
    prompt_ids: tuple[int, ...]

    def accepted_texts(self) -> set[str]:
        """Every authored line that would be right here."""
        intent = writing.intents()[self.exchange.intent]
        if not self.exchange.known:
            return {intent.unknown[self.villager.voice]}
        slots = self.villager.slots() | self.exchange.slots
        dialogue = Dialogue(np.random.default_rng(0))
        return {text.format_map(slots) for text in dialogue.replies(intent, self.villager)}


@dataclass(frozen=True)
class Score:
    """Shares are of lines (exact, facts: of the lines that need facts); `tokens_per_forward` counts every pass of a line."""

    lines: int
    exact: float
    facts: float
    tokens_per_forward: float
    tokens: float


def questions(tokenizer: Tokenizer, count: int, seed: int) -> list[Question]:
    """`count` questions to held-out villagers, deterministic in `seed`."""
    rng = np.random.default_rng((seed, 7))
    maker = SampleMaker(tokenizer, rng, evaluation=True)
    world, dialogue = World(rng, evaluation=True), Dialogue(rng)
    found = []
    for _ in range(count):
        villager = world.villager()
        exchange = dialogue.exchange(villager)
        card = [maker.special[CARD], *maker.encode(villager.card_text())]
        found.append(Question(villager, exchange, (*card, *maker.turn(villager, exchange).prompt)))
    return found


def answer(scheduler: Scheduler, asked: list[Question], mode: Mode, threshold: float) -> list[LineResult]:
    """One line per question, `ROWS_AT_ONCE` at a time. Raises the error of a line that failed."""
    results: list[LineResult] = []
    batches = [asked[first : first + ROWS_AT_ONCE] for first in range(0, len(asked), ROWS_AT_ONCE)]
    for batch in track(batches, f"{mode} {threshold}"):
        waits = [_Wait() for _ in batch]
        for question, wait in zip(batch, waits, strict=True):
            scheduler.submit(LineRequest(question.prompt_ids, mode, threshold=threshold), wait)
        results += [wait.result() for wait in waits]
    return results


class _Wait:
    """A listener that keeps the last event."""

    def __init__(self) -> None:
        self._done, self._last = threading.Event(), None

    def __call__(self, event: LineEvent) -> None:
        if isinstance(event, Finished | Failed):
            self._last = event
            self._done.set()

    def result(self) -> LineResult:
        self._done.wait()
        if isinstance(self._last, Finished):
            return self._last.result
        raise self._last.error if self._last else RuntimeError("a line ended without an event")


def score(asked: list[Question], results: list[LineResult], tokenizer: Tokenizer) -> tuple[Score, dict[str, list[bool]], list[str]]:
    """The score, per intent whether each line was exact, and the texts."""
    texts = [tokenizer.decode(list(result.token_ids)) for result in results]
    exact, facts = [], []
    by_intent: dict[str, list[bool]] = defaultdict(list)
    for question, text in zip(asked, texts, strict=True):
        exact.append(text in question.accepted_texts())
        by_intent[question.exchange.intent].append(exact[-1])
        if question.exchange.slots:
            facts.append(all(value in text for value in question.exchange.slots.values()))
    tokens, forwards = sum(one.tokens for one in results), sum(one.forwards for one in results)
    summary = Score(len(asked), _share(exact), _share(facts), round(tokens / forwards, 2), round(tokens / len(results), 1))
    return summary, by_intent, texts


def _share(values: list[bool]) -> float:
    return round(sum(values) / max(1, len(values)), 4)


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder written by dlm-export.")] = Path("bundle"),
    lines: Annotated[int, typer.Option(help="Questions per mode.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of villagers and questions.")] = 0,
    show: Annotated[int, typer.Option(help="Print this many lines of the first mode.")] = 12,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores here.")] = None,
) -> None:
    """Score every mode, and diffusion at several thresholds, on held-out villagers."""
    loaded = Bundle.load(bundle)
    tokenizer = Tokenizer.from_file(str(loaded.tokenizer_path))
    asked = questions(tokenizer, lines, seed)
    engine = OnnxEngine(loaded)
    scheduler = Scheduler(engine, max_rows=ROWS_AT_ONCE)
    scheduler.start()
    runs: list[tuple[Mode, float]] = [("diffusion", 0.9), ("diffusion", 0.7), ("diffusion", 0.5), ("self_speculation", 0.9), ("ar", 0.9)]
    console, rows = Console(), []
    table = Table("mode", "threshold", "exact lines", "facts right", "tokens/forward", "tokens/line")
    for mode, threshold in runs:
        summary, by_intent, texts = score(asked, answer(scheduler, asked, mode, threshold), tokenizer)
        if not rows:
            for question, text in list(zip(asked, texts, strict=True))[:show]:
                console.print(
                    f"[{question.villager.voice}] {question.exchange.player} -> {text}   ({question.exchange.slots})", markup=False
                )
            console.print({intent: f"{_share(found):.0%}" for intent, found in sorted(by_intent.items())})
        table.add_row(
            mode, str(threshold), f"{summary.exact:.1%}", f"{summary.facts:.1%}", str(summary.tokens_per_forward), str(summary.tokens)
        )
        rows.append({"mode": mode, "threshold": threshold} | asdict(summary))
    scheduler.close()
    engine.close()
    console.print(table)
    if json_file:
        json_file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(evaluate)
