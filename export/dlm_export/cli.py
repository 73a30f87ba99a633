"""`dlm-export`: write, inspect and verify bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from . import cli_options as opt
from .cli_errors import BAD_INPUT, NOT_EQUAL, reported_errors
from .cli_progress import shown_progress
from .default_command import DefaultCommandGroup
from .defaults import TOP_K

# The commands import what they run themselves: torch takes seconds to load, and neither --help nor inspect needs it.

app = typer.Typer(
    cls=DefaultCommandGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Turn a diffusion language model's checkpoint into a bundle, the folder that dlm-serve runs. Training-free.\n\n"
    "[bold]dlm-export CHECKPOINT --out DIR[/] \\[--precision fp32|fp16|bf16|int8|int4] \\[--embedding-precision P] \\[--head-precision P] "
    "\\[--keep-fp32 PATTERN] \\[--target onnxruntime|tensorrt-rtx|tensorrt] \\[--modes A,B] \\[--context-mask M] \\[--max-context N] "
    "\\[--block-length N] \\[--top-k N] \\[--mask-token-id ID] ... "
    "\\[--loop] \\[--graph-only | --compute-capability LIST --max-batch N ...] \\[--revision REV] \\[--name NAME] \\[--force] "
    "\\[--json]\n\n"
    "[bold]dlm-export export --help[/] explains them one by one.\n\n"
    "CHECKPOINT is a folder with config.json and safetensors, or a Hugging Face id. "
    "Exit codes: 0 done, 1 bundle and reference differ, 2 bad input, 3 a defect of dlm-export, 130 interrupted.",
    epilog="[bold]Examples[/]\n\n"
    "dlm-export my-checkpoint --out my-bundle\n\n"
    "dlm-export GSAI-ML/LLaDA-8B-Instruct --out llada --precision int4\n\n"
    "dlm-export my-checkpoint --out my-small-bundle --precision int8 --keep-fp32 'layers.0.*'\n\n"
    "dlm-export my-checkpoint --out my-engine-bundle --target tensorrt-rtx --precision fp16\n\n"
    "dlm-export engine my-bundle --compute-capability 86,89,120\n\n"
    "dlm-export families\n\n"
    "dlm-export inspect my-bundle\n\n"
    "dlm-export verify my-bundle my-checkpoint\n\n"
    "dlm-export verify my-bundle recorded-runs --samples",
)


@app.command(epilog=opt.EXPORT_EXAMPLES)
def export(
    checkpoint: opt.Source,
    out: opt.Out,
    precision: opt.PrecisionOption = opt.PrecisionName.fp32,
    embedding_precision: opt.EmbeddingPrecision = None,
    head_precision: opt.HeadPrecision = None,
    keep_fp32: opt.KeepFp32 = None,
    target: opt.TargetOption = opt.TargetName.onnxruntime,
    modes: opt.Modes = None,
    context_mask: opt.ContextMaskOption = None,
    max_context: opt.MaxContext = None,
    block_length: opt.BlockLength = None,
    top_k: opt.TopK = TOP_K,
    loop: opt.Loop = False,
    graph_only: opt.GraphOnly = False,
    compute_capability: opt.ComputeCapability = None,
    max_batch: opt.MaxBatch = None,
    max_prefill: opt.MaxPrefill = None,
    plugin: opt.Plugin = None,
    build_timeout: opt.BuildTimeout = None,
    mask_token_id: opt.MaskTokenId = None,
    eos_token_id: opt.EosTokenId = None,
    pad_token_id: opt.PadTokenId = None,
    bos_token_id: opt.BosTokenId = None,
    revision: opt.Revision = None,
    name: opt.Name = None,
    force: opt.Force = False,
    as_json: opt.Json = False,
) -> None:
    """Write a bundle (the default: the word `export` may be left out).

    The folder appears whole or not at all. For --target tensorrt-rtx an engine is built too, which takes no GPU.
    """
    with reported_errors("nothing was written"), shown_progress("loading torch and onnx", quiet=as_json) as progress:
        from .display import export_json, plain_stdout, show_export
        from .engine_choice import EngineChoice
        from .export_options import ExportOptions
        from .exporting import export_bundle
        from .families import SpecialOverrides
        from .hub import resolve_checkpoint

        choice = EngineChoice(compute_capability, max_batch, max_prefill, plugin, build_timeout)
        engine = choice.for_export(target.value, graph_only=graph_only)
        source = resolve_checkpoint(checkpoint, revision=revision, progress=progress.stage)
        options = ExportOptions(
            precision=precision.value,
            embedding_precision=embedding_precision.value if embedding_precision else None,
            head_precision=head_precision.value if head_precision else None,
            kept_layers=tuple(keep_fp32 or ()),
            target=target.value,
            name=name or source.name,
            modes=opt.split_modes(modes),
            context_mask=context_mask.value if context_mask else None,
            max_context=max_context,
            block_length=block_length,
            top_k=top_k,
            special=SpecialOverrides(mask_token_id, bos_token_id, tuple(eos_token_id) if eos_token_id else None, pad_token_id),
            source_name=source.repo_id,
            revision=source.revision,
            loop=loop,
            engine=engine,
        )
        report = export_bundle(source.path, out, options, force=force, progress=progress).with_notes(source.notes)
    if as_json:
        typer.echo(json.dumps(export_json(report), indent=2))
    else:
        show_export(plain_stdout(), report)


@app.command(epilog=opt.ENGINE_EXAMPLES)
def engine(
    bundle: opt.Bundle,
    target: opt.EngineTarget = opt.TargetName.tensorrt_rtx,
    compute_capability: opt.ComputeCapability = None,
    max_batch: opt.MaxBatch = None,
    max_context: opt.EngineContext = None,
    max_prefill: opt.MaxPrefill = None,
    plugin: opt.Plugin = None,
    build_timeout: opt.BuildTimeout = None,
    loop: opt.Loop = False,
    as_json: opt.Json = False,
) -> None:
    """Build engines for a bundle that exists, in place of those that it has. The bundle changes whole or not at all."""
    with reported_errors("the bundle is as it was"), shown_progress("loading onnx", quiet=as_json) as progress:
        from .bundle_engines import add_engines
        from .display import plain_stdout
        from .display_engines import engines_json, show_added
        from .engine_choice import EngineChoice

        choice = EngineChoice(compute_capability, max_batch, max_prefill, plugin, build_timeout, max_context)
        added = add_engines(bundle, choice.options(target.value), loop=loop, progress=progress)
    if as_json:
        typer.echo(json.dumps(engines_json(added), indent=2))
    else:
        show_added(plain_stdout(), added)


@app.command()
def families(as_json: opt.Json = False) -> None:
    """List the architectures that can be exported, as config.json spells them, and how each of them decodes."""
    with reported_errors():
        from .display import families_json, plain_stdout, show_families

        if as_json:
            typer.echo(json.dumps(families_json(), indent=2))
        else:
            show_families(plain_stdout())


@app.command()
def inspect(bundle: opt.Bundle, as_json: opt.Json = False) -> None:
    """Print what is in a bundle: sizes, special ids, files, inputs and outputs."""
    with reported_errors():
        from .display import plain_stdout, show_inspection
        from .inspection import inspect_bundle

        inspection = inspect_bundle(bundle)
    if as_json:
        typer.echo(json.dumps(inspection.to_json(), indent=2))
    else:
        show_inspection(plain_stdout(), inspection)


@app.command()
def verify(
    bundle: opt.Bundle,
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="Recorded logits, a checkpoint, or another bundle: see above.")],
    seed: Annotated[int, typer.Option(help="Seed of the random input, where the reference is a checkpoint.", min=0)] = 0,
    samples: Annotated[bool, typer.Option("--samples", help="Run the recorded sampler runs of REFERENCE again: see above.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Compare a bundle, run by ONNX Runtime, with a reference. Exit code 1 says that they differ.

    A folder of recorded logits (logits.npz, meta.json): every recorded call is played on the graph; fp32 may be off by what meta.json
    allows, 1e-4 where it says nothing.

    A checkpoint: random rows of every mode, against plain torch; `allowed` is 1e-4, or more where torch's own rounding, measured against
    float64, moves the numbers further than usual.

    Another bundle, the fp32 one of the same checkpoint: top-1 agreement, KL divergence and changed lines, on real prompts. None of them
    has a bound, so the exit code is 0 whatever they are.

    --samples, for a folder with samples.json: every recorded run of a published sampler is run again, by itself and then in one batch with
    all others. Tokens and forward passes have to be equal. Recorded logits beside it are played as well. A run that names an unknown
    sampler counts as different and makes the exit code 2.
    """
    with reported_errors(), shown_progress("loading", quiet=as_json) as progress:
        from .display import plain_stdout, show_verify, verify_json
        from .verify import verify_bundle

        report = verify_bundle(bundle, reference, seed=seed, samples=samples, progress=progress)
    if as_json:
        typer.echo(json.dumps(verify_json(report), indent=2))
    else:
        show_verify(plain_stdout(), report)
    if report.samples is not None and report.samples.names_unknown_samplers:
        raise typer.Exit(BAD_INPUT)
    if not report.passed:
        raise typer.Exit(NOT_EQUAL)
