"""Where a checkpoint comes from: a folder, or a repository on Hugging Face that is fetched into the cache.

Only data is fetched (safetensors, JSON, templates), never pickles or code, and a cached copy is used as it is when the network is away.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import GIVE_CHECKPOINT, INDEX_FILE, PICKLE_SUFFIXES, SINGLE_FILE, pickle_error
from .errors import CheckpointError
from .hub_errors import HubProblem, hub_problem, neither_folder_nor_id, without_secrets
from .hub_progress import download_bar, in_units

WANTED_FILES = ("*.safetensors", "*.json", "*.jinja")  # the index and all tokenizer files that are read are JSON
UNWANTED_FILES = ("*/*", "consolidated*.safetensors")  # the same weights in another form, at twice the download
LOOKUP_TIMEOUT_S = 30
ID_PATTERN = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>.+))?", re.ASCII)
REVISION_PATTERN = re.compile(r"(?!.*\.\.)[\w.][\w./+-]*", re.ASCII)
CACHE_PREFIX = "models--"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ResolvedSource:
    """A checkpoint folder on this machine, and the repository and commit it is a copy of. `notes` are sentences for whoever exports."""

    path: Path
    repo_id: str | None = None
    revision: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What to call the checkpoint: the repository's own name, else the folder's."""
        return self.repo_id.partition("/")[2] if self.repo_id else self.path.resolve().name


@dataclass(frozen=True)
class Repository:
    """A repository's id `owner/name` and the branch, tag or commit that was asked for; None is the main branch."""

    id: str
    revision: str | None

    def __str__(self) -> str:
        return f"{self.id}@{self.revision}" if self.revision else self.id


def resolve_checkpoint(
    source: str | Path, *, revision: str | None = None, cache: Path | None = None, progress: Progress = lambda sentence: None
) -> ResolvedSource:
    """The folder of a checkpoint, fetched where `source` is an id `owner/name` or `owner/name@revision`. A folder goes before an id.

    `cache` stands in for Hugging Face's own cache folder. With HF_HUB_OFFLINE set, or no network, a cached snapshot is used.
    Raises CheckpointError: neither a folder nor an id, no such repository or revision, not allowed to read it, out of reach and not
    cached, nothing in it but pickles.
    """
    text = str(source)
    if text and is_folder(text):
        if revision is not None:
            raise CheckpointError(text, "is a folder, and a revision is given", "Revisions are for Hugging Face ids: leave it out")
        return local_source(Path(text).expanduser())
    return fetch(parse_repository(text, revision), cache, progress)


def is_folder(text: str) -> bool:
    """Whether a folder of that name is there."""
    try:
        return Path(text).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # too long for a name, a NUL in it, nobody's home
        return False


def local_source(folder: Path) -> ResolvedSource:
    """A folder as it is; one that lies in a Hugging Face cache (`models--owner--name/snapshots/commit`) says whose copy it is."""
    real = folder.resolve()
    if real.parent.name != "snapshots":
        return ResolvedSource(folder)
    root = real.parent.parent.name
    repo_id = root.removeprefix(CACHE_PREFIX).replace("--", "/", 1) if root.startswith(CACHE_PREFIX) else None
    return ResolvedSource(folder, repo_id, real.name)


def parse_repository(source: str, revision: str | None) -> Repository:
    """`owner/name` or `owner/name@revision`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    match = ID_PATTERN.fullmatch(source)
    if match is None:
        raise neither_folder_nor_id(source)
    try:
        validate_repo_id(match["id"])
    except HFValidationError:
        raise neither_folder_nor_id(source) from None
    inner = match["revision"]
    if revision is not None and inner is not None and revision != inner:
        raise CheckpointError(without_secrets(source), f"and the revision {without_secrets(revision)} disagree", "Give one revision")
    wanted = revision if revision is not None else inner
    if wanted is not None and not REVISION_PATTERN.fullmatch(wanted):
        raise CheckpointError(match["id"], f"has no revision {without_secrets(wanted)!r}", "Give a branch, a tag or a commit")
    return Repository(match["id"], wanted)


def fetch(repository: Repository, cache: Path | None, progress: Progress) -> ResolvedSource:
    """Look a repository up, refuse it before the download where it cannot be used, and download what is missing in the cache."""
    import huggingface_hub

    if is_offline():
        return cached_source(repository, cache, HubProblem("HF_HUB_OFFLINE is set, and it", "Unset HF_HUB_OFFLINE"))
    progress(f"looking up {repository} on Hugging Face")
    try:
        info = huggingface_hub.HfApi().model_info(
            repository.id, revision=repository.revision, timeout=LOOKUP_TIMEOUT_S, files_metadata=True
        )
    except Exception as error:  # the HTTP library behind the hub, and so its errors, differ from version to version
        problem = hub_problem(error, repository.id, repository.revision)
        if isinstance(problem, CheckpointError):
            raise problem from None  # the cause may quote a request with its token
        return cached_source(repository, cache, problem)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    check_files(repository.id, sizes)
    wanted = {name: size for name, size in sizes.items() if is_wanted(name)}
    label = f"downloading {repository}"
    progress(f"{label}: {len(wanted)} files, {in_units(sum(wanted.values()))}")
    try:
        path = Path(
            huggingface_hub.snapshot_download(
                repository.id,
                revision=repository.revision,
                cache_dir=cache,
                allow_patterns=list(WANTED_FILES),
                ignore_patterns=list(UNWANTED_FILES),
                tqdm_class=download_bar(label, progress),
            )
        )
    except Exception as error:
        problem = hub_problem(error, repository.id, repository.revision)
        raise (problem if isinstance(problem, CheckpointError) else problem.error(repository.id, "was not downloaded whole")) from None
    if path.name != info.sha:  # what was looked at is not what came
        raise CheckpointError(repository.id, "changed while it was being downloaded", "Try again, or give a commit as --revision")
    return ResolvedSource(path, repository.id, path.name)


def cached_source(repository: Repository, cache: Path | None, why: HubProblem) -> ResolvedSource:
    """The snapshot in the cache, when the hub is out of reach for the reason `why`."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        path = Path(
            huggingface_hub.snapshot_download(
                repository.id,
                revision=repository.revision,
                cache_dir=cache,
                local_files_only=True,
                allow_patterns=list(WANTED_FILES),
                ignore_patterns=list(UNWANTED_FILES),
            )
        )
    except LocalEntryNotFoundError as error:
        if hasattr(error, "snapshot_path"):
            raise why.error(repository.id, "is only in part in the cache") from None
        others = cached_commits(repository, cache)
        hint = f"in this revision; the cache holds {', '.join(others)}" if others else ""
        raise CheckpointError(str(repository), f"is no folder here; {why.reason} is not in the cache {hint}".strip(), why.remedy) from None
    check_files(repository.id, [file.name for file in path.iterdir()], cached=True)
    notes = () if is_offline() else (f"Hugging Face is out of reach: the cached copy of {repository} was used, commit {path.name}.",)
    return ResolvedSource(path, repository.id, path.name, notes)


def check_files(repo_id: str, names: Iterable[str], *, cached: bool = False) -> None:
    """Refuse a repository that cannot be exported whatever its config says, from its list of files."""
    found = {name for name in names if "/" not in name}
    where = "the cached copy" if cached else "it"
    if not found & {SINGLE_FILE, INDEX_FILE}:
        pickles = sorted(name for name in found if Path(name).suffix in PICKLE_SUFFIXES)
        if pickles:
            raise pickle_error(Path(repo_id) / pickles[0])
        remedy = "Take the repository that holds the weights in safetensors form"
        raise CheckpointError(repo_id, f"{where} holds neither {SINGLE_FILE} nor {INDEX_FILE}", remedy)
    if "config.json" not in found:
        raise CheckpointError(repo_id, f"{where} holds no config.json", GIVE_CHECKPOINT)


def is_wanted(name: str) -> bool:
    """Whether a file of a repository is downloaded."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in WANTED_FILES) and not any(
        fnmatch.fnmatch(name, pattern) for pattern in UNWANTED_FILES
    )


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def cached_commits(repository: Repository, cache: Path | None) -> list[str]:
    """Commits of a repository that the cache has snapshots of."""
    from huggingface_hub import constants

    root = Path(cache or constants.HF_HUB_CACHE) / f"{CACHE_PREFIX}{repository.id.replace('/', '--')}" / "snapshots"
    return sorted(folder.name for folder in root.iterdir()) if root.is_dir() else []
