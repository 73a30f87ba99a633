"""How fast and how good a model's samplers are, side by side: `python benchmarks/sampler_quality.py samples/tavern/bundle`.

The bundle is the tavern's: questions to villagers that training never met, judged as `tavern_model.evaluate` does. Tokens per forward count
every forward pass a line took part in, its prompt's and its blocks' storing included.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from dlm_runtime.bundle import Bundle, Mode
from dlm_runtime.engines import OnnxEngine
from dlm_runtime.policies.choose import policy_for
from dlm_runtime.policies.klass import Klass
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Policy
from dlm_runtime.policies.sampling import Sampling
from dlm_runtime.policies.with_sampler import WithSampler
from dlm_runtime.scheduler.together import write_together
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "samples" / "tavern"))
from tavern_model.evaluate import Question, questions

ROWS = 32
MOST_TOKENS = 64


@dataclass(frozen=True)
class Run:
    """A way to decode: `name` as a request names it (or a mode), and what it is given."""

    name: str
    threshold: float | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    mode: Mode = "diffusion"
    klass: Klass | None = None

    def policy(self, bundle: Bundle) -> Policy:
        """As the request would be served."""
        if self.klass is not None:
            klass = self.klass
            return WithSampler(policy_for(bundle.manifest, "diffusion"), lambda line: klass)
        sampler = None if self.name in ("ar", "self_speculation") else self.name
        return policy_for(bundle.manifest, self.mode, self.threshold, sampler)


RUNS = [
    Run("ar", mode="ar"),
    Run("self_speculation", mode="self_speculation"),
    Run("nemotron_diffusion", 0.9),
    Run("nemotron_diffusion", 0.7),
    Run("nemotron_diffusion", 0.5),
    Run("hierarchy", 0.9),
    Run("hierarchy", 0.7),
    Run("credit", 0.9),
    Run("credit", 0.7),
    Run("klass"),
    Run("klass", klass=Klass(0.9, 0.015)),
    Run("dus"),
    Run("remdm"),
    Run("remdm", temperature=1.0, top_p=0.9),
    Run("nemotron_diffusion", 0.9, temperature=1.0, top_p=0.9),
]


def measure(engine: OnnxEngine, bundle: Bundle, run: Run, asked: list[Question], tokenizer: Tokenizer) -> tuple[float, float, float]:
    """Tokens per forward, and the shares of exact lines and of lines with all facts right (of those that need facts)."""
    manifest, policy = bundle.manifest, run.policy(bundle)
    lines = [
        Line(question.prompt_ids, MOST_TOKENS, manifest.eos_token_ids, Sampling(run.temperature, seed, top_p=run.top_p))
        for seed, question in enumerate(asked)
    ]
    forwards = 0
    for first in range(0, len(lines), ROWS):
        forwards += sum(one.forwards for one in write_together(engine, [(policy, line) for line in lines[first : first + ROWS]]))
    texts = [tokenizer.decode(list(line.text_ids)) for line in lines]
    exact = [text in question.accepted_texts() for question, text in zip(asked, texts, strict=True)]
    facts = [
        all(value in text for value in question.exchange.slots.values())
        for question, text in zip(asked, texts, strict=True)
        if question.exchange.slots
    ]
    return sum(len(line.tokens) for line in lines) / forwards, sum(exact) / len(exact), sum(facts) / len(facts)


def main(
    bundle: Annotated[Path, typer.Argument(help="The tavern's bundle.")] = Path("samples/tavern/bundle"),
    lines: Annotated[int, typer.Option(help="Questions per sampler.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of villagers and questions.")] = 0,
) -> None:
    """Print a Markdown table."""
    loaded = Bundle.load(bundle)
    tokenizer = Tokenizer.from_file(str(loaded.tokenizer_path))
    asked = questions(tokenizer, lines, seed)
    engine = OnnxEngine(loaded, threads=1)
    print("| sampler | threshold | temperature | tokens per forward | exact lines | facts right |\n|---|---:|---:|---:|---:|---:|")
    for run in RUNS:
        speed, exact, facts = measure(engine, loaded, run, asked, tokenizer)
        threshold = f"{run.threshold or (run.klass.confidence if run.klass else None) or '-'}"
        print(f"| {run.name} | {threshold} | {run.temperature:g} | {speed:.2f} | {exact:.1%} | {facts:.1%} |", flush=True)
    engine.close()


if __name__ == "__main__":
    typer.run(main)
