"""Engines for a bundle that exists already: a new folder takes its place, whole or not at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from dlm_runtime.bundle import MANIFEST_NAME, Bundle, EngineName, Manifest, Target, write_manifest

from .block_file import write_block
from .engines.engine_folder import FOLDER, EngineFolder
from .engines.engine_options import EngineOptions
from .engines.report import EngineReport
from .errors import OptionError
from .progress import SILENT, Progress
from .staging import staged_folder

ROUNDED = ("int8", "int4")


@dataclass(frozen=True)
class AddedEngines:
    """What became of a bundle."""

    path: Path
    manifest: Manifest
    report: EngineReport


def add_engines(path: str | Path, options: EngineOptions, *, loop: bool = False, progress: Progress = SILENT) -> AddedEngines:
    """Build engines for the bundle at `path`, in place of those that it has of the same kind; with `loop`, for a whole block too.

    Raises BundleError as `Bundle.load` does, OptionError, EngineError, or OutputError; the bundle is then as it was before.
    """
    options.builder.check_installed()
    progress.stage("checking the bundle")
    bundle = Bundle.load(path)
    options.checked(bundle.manifest)
    place = bundle.path.absolute()
    target = target_for(bundle.manifest, options.builder.name)
    with staged_folder(place, force=True) as folder:
        link_files(place, folder, bundle.manifest)
        if loop and target.block_file is None:
            target = target.model_copy(update={"block_file": write_block(folder / target.file)})
        built, report = EngineFolder(folder, bundle.manifest, target, options, progress).build()
        others = tuple(other.model_copy(update={"plans": ()}) for other in bundle.manifest.targets if other.engine != built.engine)
        targets = (built, *others) if bundle.manifest.targets[0].engine == built.engine else (*others, built)
        progress.stage("hashing")
        manifest = write_manifest(folder, bundle.manifest.model_copy(update={"targets": targets}))
    return AddedEngines(place, manifest, report)


def target_for(manifest: Manifest, engine: EngineName) -> Target:
    """The bundle's target for an engine; where it has none, one of the graph that it has.

    Raises OptionError where that graph is in whole numbers, which ONNX Runtime's operators write as no builder reads them.
    """
    for target in manifest.targets:
        if target.engine == engine:
            return target
    if manifest.precision in ROUNDED:
        made_for = f"this {manifest.precision} bundle was made for {manifest.targets[0].engine} alone"
        raise OptionError("--target", engine, f"{made_for}; export the checkpoint again for the target")
    first = manifest.targets[0]
    return Target(engine=engine, file=first.file, block_file=first.block_file)


def link_files(source: Path, folder: Path, manifest: Manifest) -> None:
    """The bundle's listed files but its engines, without a copy where the disk can do that."""
    for name in manifest.files:
        if name == MANIFEST_NAME or name.startswith(f"{FOLDER}/"):
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, folder / name)
        except OSError:
            shutil.copy2(source / name, folder / name)
