"""samples.json: recorded runs of published sampling loops, as the fixtures' README describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, shown
from .sampler_runs.prepared import Ids, RecordedRun

SAMPLES_FILE = "samples.json"
RECORD_AGAIN = "Record or copy it again; the fixtures' README says what a run holds"


def read_samples(folder: Path, vocab_size: int) -> list[RecordedRun]:
    """The runs of a folder. Raises CheckpointError naming run and field where the file is missing or is not what it should be."""
    file = folder / SAMPLES_FILE
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(file, f"cannot be read: {error.strerror}", "Give a folder with recorded sampler runs") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(file, f"is no JSON: {error}", RECORD_AGAIN) from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise CheckpointError(file, "is no list of runs", RECORD_AGAIN)
    return [Entry(file, number, entry, vocab_size).run() for number, entry in enumerate(entries)]


class Entry:
    """One run as it stands in the file."""

    def __init__(self, file: Path, number: int, fields: dict[str, Any], vocab_size: int) -> None:
        self.file, self.number, self.fields, self.vocab_size = file, number, fields, vocab_size

    def run(self) -> RecordedRun:
        """The run, checked as far as it does not depend on its sampler."""
        prompts, outputs = self.rows("prompt_ids"), self.rows("output_ids")
        if [] in prompts:
            raise self.wrong("prompt_ids", f"is {shown(prompts)}, expected at least one token in every row")
        if len(prompts) != len(outputs):
            raise self.wrong("output_ids", f"has {len(outputs)} rows, prompt_ids {len(prompts)}")
        mask = self.rows("attention_mask") if self.fields.get("attention_mask") is not None else None
        if mask is not None and [len(row) for row in mask] != [len(row) for row in prompts]:
            raise self.wrong("attention_mask", "does not fit prompt_ids")
        forwards = self.needed("nfe", int)
        if forwards < 0:
            raise self.wrong("nfe", f"is {forwards}")
        return RecordedRun(
            id=self.needed("id", str),
            sampler=self.needed("sampler", str),
            params=self.needed("params", dict),
            prompt_ids=prompts,
            output_ids=outputs,
            forwards=forwards,
            attention_mask=mask,
            trajectory=self.trajectory(len(prompts)),
            fields=self.fields,
        )

    def needed(self, name: str, kind: type) -> Any:
        """A field of a type."""
        value = self.fields.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.wrong(name, f"is {shown(value)}, expected {kind.__name__}")
        return value

    def rows(self, name: str) -> list[Ids]:
        """Rows of token ids (or of zeros and ones)."""
        value = self.fields.get(name)
        if not isinstance(value, list) or not value or not all(self.is_row(row) for row in value):
            raise self.wrong(name, f"is {shown(value)}, expected rows of ids from 0 to {self.vocab_size - 1}")
        return value

    def is_row(self, row: Any) -> bool:
        """Whether something is a list of token ids."""
        return isinstance(row, list) and all(type(item) is int and 0 <= item < self.vocab_size for item in row)

    def trajectory(self, rows: int) -> list[list[Ids]] | None:
        """Canvases from call to call, where they were recorded."""
        value = self.fields.get("trajectory")
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(state, list) and all(self.is_row(row) for row in state) for state in value):
            raise self.wrong("trajectory", "is no list of canvases")
        return value if all(len(state) == rows for state in value) else None  # some loops record a single row of several

    def wrong(self, name: str, problem: str) -> CheckpointError:
        """The error for a field."""
        return CheckpointError(self.file, problem, RECORD_AGAIN, item=f"run {self.fields.get('id', self.number)}, {name}")
