"""Train the tavern model. Run from samples/tavern: `python -m tavern_model.train --out checkpoint`.

Stopped runs go on where they were (`--resume` is the default when the state file exists). Every random draw comes from (seed, step), so
a resumed run sees the samples that an unbroken one would have seen.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from dlm_export.backbones.denoiser import Denoiser
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer

from tavern_model.checkpoint import BLOCK_LENGTH, model_config, save_checkpoint
from tavern_model.initialise import initialise
from tavern_model.objective import Batch, Losses, Noise, collate, joint_loss, pack
from tavern_model.pointing import Pointing
from tavern_model.samples import SampleMaker
from tavern_model.tokens import END, MASK, PAD, load_tokenizer, train_tokenizer

AUTOREGRESSIVE_WEIGHT = 0.3
POINTING_WEIGHT = 0.5
DRILL_BLOCK_LENGTH = 8  # a drill's answer is short; a full block would be padding


@dataclass(frozen=True)
class Schedule:
    """Learning rate and share of copy drills as functions of the step."""

    steps: int
    rate: float = 2.5e-3
    warmup_steps: int = 500
    decay_share: float = 0.55
    drill_start: float = 0.4
    drill_end: float = 0.06
    drill_fade_steps: int = 800

    def rate_at(self, step: int) -> float:
        """Warm-up, constant, then a linear fall to 2% over the last `decay_share` of the run."""
        left = (self.steps - step) / max(1, self.steps * self.decay_share)
        return self.rate * min(1.0, (step + 1) / self.warmup_steps, max(0.02, left))

    def drill_share_at(self, step: int) -> float:
        done = min(1.0, step / self.drill_fade_steps)
        return self.drill_start + (self.drill_end - self.drill_start) * done


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batch of a step from (seed, step) alone."""

    tokenizer: Tokenizer
    schedule: Schedule
    rows: int
    row_tokens: int
    seed: int

    def __call__(self, step: int, evaluation: str | None = None) -> Batch:
        """The training batch of `step`, or an evaluation batch of "villagers" or "drills" with held-out names and full masks."""
        rng = np.random.default_rng((self.seed, step, 1 if evaluation else 0))
        maker = SampleMaker(self.tokenizer, rng, evaluation=evaluation is not None)
        share = {"villagers": 0.0, "drills": 1.0, None: self.schedule.drill_share_at(step)}[evaluation]
        ids, fully_masked = maker.special, 1.0 if evaluation else 0.5
        rows = []
        for _ in range(self.rows):
            drill = rng.random() < share
            noise = Noise(ids[MASK], DRILL_BLOCK_LENGTH if drill else BLOCK_LENGTH, fully_masked)
            sample = maker.drill() if drill else maker.villager()
            rows.append(pack(sample, self.row_tokens, noise, ids[END], rng))
        return collate(rows, ids[PAD])


def optimizers(model: Denoiser) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside the layers, AdamW for embeddings and norms."""
    inside = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("layers.")]
    rest = [p for name, p in model.named_parameters() if not (p.ndim == 2 and name.startswith("layers."))]
    return [
        torch.optim.Muon(inside, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=0.0),
    ]


class Trainer:
    """Model, optimisers and the files they live in."""

    def __init__(self, out: Path, batches: BatchMaker) -> None:
        self.out, self.batches, self.step = out, batches, 0
        torch.manual_seed(batches.seed)
        self.model = Denoiser(model_config(batches.tokenizer.get_vocab_size()))
        initialise(self.model)
        self.pointing = Pointing(self.model)
        self.optimizers = optimizers(self.model)
        self.state_path, self.log_path = out / "training-state.pt", out / "training-log.jsonl"

    def resume(self) -> bool:
        """Load the state of a stopped run, if there is one."""
        if not self.state_path.exists():
            return False
        state = torch.load(self.state_path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = state["step"]
        return True

    def save(self) -> None:
        """Write the resumable state and the published checkpoint."""
        state = {"model": self.model.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers], "step": self.step}
        partial = self.state_path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.state_path)
        save_checkpoint(self.out, self.model, self.batches.tokenizer)

    def advance(self) -> dict[str, float]:
        """One optimiser step; returns what to log."""
        rate = self.batches.schedule.rate_at(self.step)
        losses = self._losses(self.batches(self.step))
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return losses.report

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Teacher-forced accuracies on names that training never uses, reply blocks fully masked but for their seed."""
        report = {}
        for kind in ("villagers", "drills"):
            report |= {f"{kind}_{key}": value for key, value in self._losses(self.batches(self.step, kind)).report.items()}
        return report

    def log(self, entry: dict) -> None:
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _losses(self, batch: Batch) -> Losses:
        with torch.autocast("cpu", torch.bfloat16):
            hidden, _ = self.model.hidden(batch.tokens, batch.positions, batch.mask)
            losses = joint_loss(hidden, self.model.head, batch, AUTOREGRESSIVE_WEIGHT)
            pointing, report = self.pointing.loss(batch)
        return Losses(losses.total + POINTING_WEIGHT * pointing, losses.report | report)


def train(
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write; training state lies there too.")] = Path("checkpoint"),
    steps: Annotated[int, typer.Option(help="Optimiser steps of the whole run.")] = 3000,
    rows: Annotated[int, typer.Option(help="Packed rows a step.")] = 8,
    row_tokens: Annotated[int, typer.Option(help="Tokens a row, clean and noisy together.")] = 512,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2.5e-3,
    drill_fade_steps: Annotated[int, typer.Option(help="Steps until copy drills have faded to their final share.")] = 800,
    seed: Annotated[int, typer.Option(help="Seed of weights and samples.")] = 0,
    threads: Annotated[int, typer.Option(help="Torch threads; 1 is best beside other work.")] = 1,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    resume: Annotated[bool, typer.Option(help="Go on from the training state in OUT.")] = True,
) -> None:
    """Train the tri-mode tavern model from scratch on generated dialogue."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(out) if (out / "tokenizer.json").exists() else train_tokenizer()
    tokenizer.save(str(out / "tokenizer.json"))
    trainer = Trainer(out, BatchMaker(tokenizer, Schedule(steps, rate, drill_fade_steps=drill_fade_steps), rows, row_tokens, seed))
    if resume and trainer.resume():
        print(f"resumed at step {trainer.step}")
    columns = (TextColumn("{task.completed}/{task.total}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns) as progress:
        task = progress.add_task("", total=steps, completed=trainer.step)
        started, first = time.monotonic(), trainer.step
        while trainer.step < steps:
            report = trainer.advance()
            if trainer.step % 20 == 0:
                seconds = (time.monotonic() - started) / (trainer.step - first)
                trainer.log({"step": trainer.step, "seconds_per_step": round(seconds, 3)} | report)
            if trainer.step % save_every == 0 or trainer.step == steps:
                trainer.log({"step": trainer.step} | trainer.evaluate())
                trainer.save()
            progress.update(
                task, completed=trainer.step, description=f"diffusion {report['diffusion_loss']:.3f} ar {report['ar_loss']:.3f}"
            )


if __name__ == "__main__":
    typer.run(train)
