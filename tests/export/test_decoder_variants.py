"""The decoder under every switch and many sizes, graph against torch, without a checkpoint in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from dlm_export.backbones.denoiser import DenoiserBackbone, DenoiserConfig, Experts, LinearScaling, Llama3Scaling, RopeScaling, YarnScaling
from dlm_export.graph.builder import GraphBuilder
from dlm_export.graph.context import GraphContext
from dlm_export.graph.step import StepSettings, build_step, to_model
from dlm_export.precision import Arithmetic
from dlm_export.weights import WeightReader
from dlm_runtime.engines.neutral import neutral_inputs
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
PLAIN = DenoiserConfig(
    vocab_size=40, hidden_size=24, intermediate_size=28, layers=2, heads=4, kv_heads=2, head_dim=8, rope_theta=300.0, norm_eps=1e-5
)
MIXED = Experts(count=8, per_token=2, intermediate_size=12)
SCALINGS: tuple[RopeScaling | None, ...] = (
    None,
    LinearScaling(3.0),
    Llama3Scaling(4.0, 1.0, 4.0, 16),
    YarnScaling(8.0, 16, attention_factor=1.3),
)


@dataclass
class DrawnWeights:
    """Random weights in the place of a checkpoint's, under the backbone's own names."""

    backbone: DenoiserBackbone
    seed: int = 0
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        for name, shape in self.backbone.tensor_shapes():
            drawn = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.3 if len(shape) == 1 else shape[-1] ** -0.5)
            self.tensors[name] = drawn + 1 if "norm" in name else drawn

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: value.shape for name, value in self.tensors.items()}

    def key(self, name: str) -> str:
        return name

    def read(self, name: str) -> tuple[str, NDArray[np.float32]]:
        return name, self.tensors[name]

    def session(self) -> onnxruntime.InferenceSession:
        """The step graph of these weights."""
        builder = GraphBuilder()
        build_step(StepSettings(1, 3), GraphContext(builder, cast(WeightReader, self), Arithmetic()))
        model = to_model(builder, "decoder", opset=builder.lowest_opset, ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Both:
    """One decoder as a graph and as a torch module."""

    config: DenoiserConfig
    session: onnxruntime.InferenceSession
    module: torch.nn.Module

    @staticmethod
    def of(config: DenoiserConfig, seed: int = 0, **changed: NDArray[np.float32]) -> Both:
        """`changed` replaces tensors, dots in their names written as two underscores."""
        weights = DrawnWeights(DenoiserBackbone(config), seed)
        weights.tensors |= {name.replace("__", "."): value for name, value in changed.items()}
        module = weights.backbone.module()
        module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.tensors.items()}, strict=not config.tied)
        return Both(config, weights.session(), module)

    def compare(self, feed: Arrays) -> None:
        """Logits, keys and values."""
        layers, past_size = range(self.config.layers), feed["past.0.key"].shape[2]
        names = ["logits", *(f"present.{layer}.{part}" for layer in layers for part in ("key", "value"))]
        found = dict(zip(names, self.session.run(names, feed), strict=True))
        block_ids = torch.from_numpy(feed["block_ids"])
        mask = (block_ids[:, None] <= block_ids[:, :, None])[:, None]
        committed = torch.arange(past_size) < torch.from_numpy(feed["past_lengths"])[:, None]
        seen = committed[:, None, None].expand(-1, 1, mask.shape[2], -1)
        past = [(torch.from_numpy(feed[f"past.{layer}.key"]), torch.from_numpy(feed[f"past.{layer}.value"])) for layer in layers]
        with torch.no_grad():
            ids, positions = torch.from_numpy(feed["input_ids"]), torch.from_numpy(feed["position_ids"])
            logits, present = self.module(ids, positions, torch.cat((seen, mask), 3), past)
        expected = [logits, *(tensor for pair in present for tensor in pair)]
        for name, tensor in zip(names, expected, strict=True):
            np.testing.assert_allclose(found[name], tensor.numpy(), rtol=0, atol=1e-4, err_msg=name)


def feed_of(config: DenoiserConfig, *, rows: int = 3, length: int = 6, past: int = 4, seed: int = 0) -> Arrays:
    """Random tokens, positions, block ids and pasts."""
    rng = np.random.default_rng(seed)
    feed: Arrays = neutral_inputs(rows) | {
        "input_ids": rng.integers(0, config.vocab_size, (rows, length)),
        "position_ids": rng.integers(0, 60, (rows, length)),
        "past_lengths": rng.integers(0, past + 1, rows),
        "query_lengths": np.full(rows, length),
        "block_ids": rng.integers(0, 3, (rows, length)),
        "window_start": np.zeros(rows, np.int64),
        "allow_rows": np.zeros((rows, length), np.int64),
        "allow_table": np.zeros((1, config.vocab_size), np.float32),
        "quota": np.zeros(rows, np.int64),
        "threshold": np.ones(rows, np.float32),
        "temperature": np.zeros(rows, np.float32),
        "seed": np.zeros(rows, np.int64),
        "step": np.zeros(rows, np.int64),
    }
    for layer in range(config.layers):
        for part in ("key", "value"):
            feed[f"past.{layer}.{part}"] = rng.standard_normal((rows, config.kv_heads, past, config.head_dim), dtype=np.float32)
    return feed


def compare(config: DenoiserConfig, seed: int = 0, **changed: NDArray[np.float32]) -> None:
    Both.of(config, seed, **changed).compare(feed_of(config, seed=seed))


@pytest.mark.parametrize("switch", ["qkv_bias", "output_bias", "mlp_bias", "qk_norm", "tied"])
def test_each_switch_by_itself(switch: str) -> None:
    compare(replace(PLAIN, **{switch: True}))


@pytest.mark.parametrize("rotary_dim", [None, 2, 4, 6])
@pytest.mark.parametrize("scaling", SCALINGS, ids=["plain", "linear", "llama3", "yarn"])
def test_rotary_embedding(scaling: RopeScaling | None, rotary_dim: int | None) -> None:
    """Every scaling, of whole heads and of parts; an attention factor scales what turns and nothing else."""
    compare(replace(PLAIN, rope_scaling=scaling, rotary_dim=rotary_dim, qk_norm=rotary_dim == 4))


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(1, 1, 2), (6, 1, 4), (5, 5, 6), (8, 4, 32)])
def test_heads(heads: int, kv_heads: int, head_dim: int) -> None:
    compare(replace(PLAIN, heads=heads, kv_heads=kv_heads, head_dim=head_dim, query_scale_beta=0.2, query_scale_positions=16))


@pytest.mark.parametrize(
    "experts",
    [
        MIXED,
        replace(MIXED, per_token=1),
        replace(MIXED, per_token=1, renormalise=True),
        replace(MIXED, per_token=8, renormalise=True),
        replace(MIXED, count=1, per_token=1),
        replace(MIXED, score="sigmoid", score_bias=True, renormalise=True, scale=2.5),
        replace(MIXED, groups=4, top_groups=2, per_token=4),
        replace(MIXED, groups=2, top_groups=1, score="sigmoid", score_bias=True, per_token=3),
        replace(MIXED, groups=4, top_groups=4),
        replace(MIXED, shared_size=10),
        replace(MIXED, shared_size=10, dense_layers=frozenset({0})),
        replace(MIXED, dense_layers=frozenset({1})),
    ],
    ids=str,
)
def test_experts(experts: Experts) -> None:
    compare(replace(PLAIN, experts=experts))


def drawn_configs() -> Iterator[DenoiserConfig]:
    """Whatever goes together, thrown together."""
    rng = np.random.default_rng(1234)

    def heads_or_tails() -> bool:
        return bool(rng.integers(2))

    for _ in range(16):
        kv_heads, head_dim, groups = int(rng.integers(1, 4)), 2 * int(rng.integers(1, 9)), int(rng.integers(1, 4))
        top_groups, layers = int(rng.integers(1, groups + 1)), int(rng.integers(1, 4))
        group_size = int(rng.integers(2, 5))
        experts = Experts(
            count=groups * group_size,
            per_token=int(rng.integers(1, group_size * top_groups + 1)),
            intermediate_size=int(rng.integers(1, 20)),
            score="sigmoid" if heads_or_tails() else "softmax",
            score_bias=heads_or_tails(),
            renormalise=heads_or_tails(),
            scale=float(rng.choice([1.0, 2.5])),
            groups=groups,
            top_groups=top_groups,
            shared_size=int(rng.choice([0, 7])),
            dense_layers=frozenset(layer for layer in range(layers) if not rng.integers(3)),
        )
        yield DenoiserConfig(
            vocab_size=int(rng.integers(5, 70)),
            hidden_size=int(rng.integers(1, 40)),
            intermediate_size=int(rng.integers(1, 50)),
            layers=layers,
            heads=kv_heads * int(rng.integers(1, 4)),
            kv_heads=kv_heads,
            head_dim=head_dim,
            rope_theta=float(rng.choice([50.0, 1e4, 1e6])),
            norm_eps=float(rng.choice([1e-6, 1e-3])),
            rope_scaling=SCALINGS[rng.integers(len(SCALINGS))],
            rotary_dim=2 * int(rng.integers(1, head_dim // 2 + 1)) if heads_or_tails() else None,
            query_scale_beta=float(rng.choice([0.0, 0.1])),
            query_scale_positions=16,
            tied=heads_or_tails(),
            qkv_bias=heads_or_tails(),
            output_bias=heads_or_tails(),
            mlp_bias=heads_or_tails(),
            qk_norm=heads_or_tails(),
            experts=experts if heads_or_tails() else None,
        )


@pytest.mark.parametrize("config", list(drawn_configs()), ids=[f"drawn{index}" for index in range(16)])
def test_all_together(config: DenoiserConfig) -> None:
    compare(config, seed=2)


@pytest.mark.parametrize("groups", [1, 2])
def test_one_token_leaves_most_experts_without_any(groups: int) -> None:
    config = replace(PLAIN, experts=replace(MIXED, groups=groups))
    Both.of(config).compare(feed_of(config, rows=1, length=1, past=0))


def test_an_expert_that_nobody_elects() -> None:
    """Expert 3 of the first layer is never taken, whatever the tokens; in the second all tokens take the same two."""
    config = replace(PLAIN, experts=replace(MIXED, score="sigmoid", score_bias=True, renormalise=True))
    never, always = np.zeros(8, np.float32), np.zeros(8, np.float32)
    never[3], always[[2, 6]] = -10, 10
    both = Both.of(config, layers__0__mlp__gate__expert_bias=never, layers__1__mlp__gate__expert_bias=always)
    both.compare(feed_of(config))
    other = DrawnWeights(DenoiserBackbone(config))
    other.tensors |= {"layers.0.mlp.gate.expert_bias": never, "layers.1.mlp.gate.expert_bias": always}
    for part in ("gate", "up", "down"):
        other.tensors[f"layers.0.mlp.experts.3.{part}_proj.weight"] *= 50
    feed = feed_of(config)
    np.testing.assert_array_equal(other.session().run(["logits"], feed)[0], both.session.run(["logits"], feed)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_token": 9}, "per_token=9 exceeds the experts that stand for election"),
        ({"groups": 3}, "count=8 is not a multiple of groups=3"),
        ({"groups": 8}, "a group is judged by its two best"),
        ({"groups": 2, "top_groups": 3}, "top_groups=3 exceeds groups=2"),
        ({"groups": 4, "top_groups": 1, "per_token": 3}, "per_token=3 exceeds"),
        ({"count": 0}, "count=0 must be at least 1"),
    ],
)
def test_mixtures_that_cannot_be(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(MIXED, **changes)
