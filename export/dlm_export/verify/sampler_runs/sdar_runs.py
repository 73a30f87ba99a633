"""SDAR's loop, and S2D2's two for SDAR."""

from __future__ import annotations

from collections.abc import Callable

from dlm_runtime.bundle import Manifest
from dlm_runtime.policies.line import Line
from dlm_runtime.policies.passes import Policy
from dlm_runtime.policies.s2d2 import SelfSpeculation
from dlm_runtime.policies.sampling import Sampling
from dlm_runtime.policies.sdar import STRATEGIES, BlockDiffusion
from dlm_runtime.policies.when_to_verify import Verification

from .parameters import Parameters, UnsupportedRun
from .prepared import Ids, PreparedRow, PreparedRun, RecordedRun, whole_canvas

RECORDED_DRAW = 0.5  # every acceptance draw of a recorded run
GREEDY_BELOW = 1e-6  # S2D2 counts such temperatures as 0


def prepare_sdar(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`block_diffusion_generate`, recorded with the likeliest token in place of a draw: temperature and filters shape confidence alone."""
    given = Parameters(run)
    temperature = given.number("temperature", 1.0)
    if not temperature > 0:
        raise UnsupportedRun("temperature", temperature, "the published loop divides by it")
    policy = base_policy(given, manifest, temperature)
    sampling = Sampling(top_k=given.integer("top_k", 0), top_p=given.number("top_p", 1.0), banned_token_ids=())
    return finished(given, run, policy, sampling, given.positive("gen_length", 128), whole_canvas)


def prepare_s2d2_base(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`block_diffusion_generate` of S2D2's generate.py."""
    given = Parameters(run)
    policy = base_policy(given, manifest, 1.0)
    return s2d2(given, run, policy)


def prepare_s2d2(run: RecordedRun, manifest: Manifest) -> PreparedRun:
    """`block_diffusion_generate` of S2D2's generate_ssd_policy.py, all acceptance draws being the same number."""
    given = Parameters(run)
    temperature = given.number("temperature", 1.0)
    odds = Sampling(temperature=temperature, top_k=given.integer("top_k", 0), top_p=given.number("top_p", 1.0))
    policy = SelfSpeculation(
        given.positive("block_length", 8),
        given.mask("mask_id", manifest),
        given.positive("denoising_steps", 8),
        given.choice("remasking_strategy", STRATEGIES[0], STRATEGIES),
        threshold=given.number("confidence_threshold", 0.85),
        verification=verification(given),
        cache_ver=bool(given.get("cache_ver", False)),
        draft_ver=bool(given.get("draft_ver", False)),
        ratio_tempering=given.number("ssd_ratio_tempering_factor", 1.0),
        ratio_threshold=given.number("ssd_ratio_threshold", -1.0) if given.get("ssd_ratio_threshold", -1.0) is not None else -1.0,
        all_spans=bool(given.get("ssd_threshold_all_spans", False)),
        checks_sure=bool(given.get("always_check_high_confidence", False)),
        allow_resample=bool(given.get("allow_resample", True)),
        fixed_draw=RECORDED_DRAW,
        odds=None if temperature < GREEDY_BELOW else odds,
        as_published=True,
    )
    return s2d2(given, run, policy)


def verification(given: Parameters) -> Verification:
    """When it verifies."""
    return Verification(
        rule=given.get("do_verify_policy", "mask_span_length"),
        min_span_length=given.integer("min_ssd_span_length", 1),
        legacy=bool(given.get("legacy_ssd_span_strategy", False)),
        score_threshold=given.number("do_verify_score_threshold", -1.0),
        hysteresis_on=given.number("hysteresis_threshold_on", 0.0),
        hysteresis_off=given.number("hysteresis_threshold_off", -1.0),
        score_type=given.get("do_verify_score_type", "difference_dynamic"),
        penalty_coef=given.number("score_penalty_coef", 2.0),
        estimator=given.get("token_acceptance_estimator", "hard_margin_threshold"),
        margin_threshold=given.number("ssd_confidence_margin_threshold", 0.05),
        confidence_power=given.number("ssd_confidence_power", 1.0),
        entropy_threshold=given.number("ssd_entropy_threshold", 0.5),
        margin_coef=given.number("ssd_confidence_margin_coef", 1.0),
        entropy_temperature=given.number("ssd_entropy_temperature", 1.0),
        ucb_beta=given.number("ucb_beta", 1.0),
        ucb_span_bins=max(1, given.integer("ucb_span_length_bins", 2)),
        ucb_progress_bins=max(1, given.integer("ucb_block_progress_bins", 2)),
        ucb_entropy_bins=max(1, given.integer("ucb_entropy_bins", 2)),
        ucb_entropy_of=given.get("ucb_entropy_source", "span"),
    )


def base_policy(given: Parameters, manifest: Manifest, temperature: float) -> BlockDiffusion:
    """The loop without verification. ValueError where the strategy is none of ours."""
    return BlockDiffusion(
        given.positive("block_length", 8),
        given.mask("mask_id", manifest),
        given.positive("denoising_steps", 8),
        given.get("remasking_strategy", STRATEGIES[0]),
        threshold=given.number("confidence_threshold", 0.85),
        confidence_temperature=temperature,
        as_published=True,
    )


def s2d2(given: Parameters, run: RecordedRun, policy: BlockDiffusion | SelfSpeculation) -> PreparedRun:
    """A run of one of S2D2's loops: whoever does not sample takes the likeliest token, whatever the temperature."""
    if given.get("do_sample", False) and given.number("temperature", 1.0) >= GREEDY_BELOW:
        raise UnsupportedRun("do_sample", True, "draws of the reference cannot be repeated")
    given.ignore("temperature", "top_k", "top_p", "eb_threshold", "attention_mask", "return_forward_stats")
    longest = given.get("max_gen_toks")
    limit = given.positive("gen_length", 128) if longest is None else given.positive("max_gen_toks")
    stops = given.ids("stopping_criteria_idx")
    output = trimmed(policy.mask_token_id, stops) if given.get("trim_stop_tokens", True) else whole_canvas
    return finished(given, run, policy, Sampling(banned_token_ids=()), limit, output)


def trimmed(mask_token_id: int, stops: tuple[int, ...]) -> Callable[[Line], Ids]:
    """What S2D2 returns: nothing from the first stop token on, and no masks at the end."""

    def output(line: Line) -> Ids:
        new = line.canvas[line.prompt_length :].tolist()
        end = next((i for i, token_id in enumerate(new) if token_id in stops), len(new))
        written = max((i + 1 for i, token_id in enumerate(new) if token_id != mask_token_id), default=0)
        return [*line.prompt_ids, *new[: min(end, written)]]

    return output


def finished(
    given: Parameters, run: RecordedRun, policy: Policy, sampling: Sampling, limit: int, output: Callable[[Line], Ids]
) -> PreparedRun:
    """The run's only row."""
    stops = given.ids("stopping_criteria_idx")
    given.finish()
    if len(run.prompt_ids) != 1:
        raise UnsupportedRun("prompt_ids", f"{len(run.prompt_ids)} rows", "the published loop writes one line")
    shown = whole_canvas if output is whole_canvas or not stops else None  # what is trimmed is trimmed in the last canvas too
    return PreparedRun([PreparedRow(policy, Line(run.prompt_ids[0], limit, stops, sampling), output, canvas=shown)])


RUNS = {"sdar": prepare_sdar, "s2d2_base": prepare_s2d2_base, "s2d2": prepare_s2d2}
