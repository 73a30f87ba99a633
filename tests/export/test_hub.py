"""Folders, ids and cached snapshots; nothing here touches a network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from dlm_export.errors import CheckpointError
from dlm_export.hub import ResolvedSource, is_wanted, resolve_checkpoint
from dlm_export.hub_progress import download_bar, in_units
from huggingface_hub import errors

COMMIT, OLDER = "a" * 40, "b" * 40
SECRET = "hf_abcdefghijklmnop"
CHECKPOINT_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def fill_cache(cache: Path, *names: str, commit: str = COMMIT, ref: str | None = "main") -> Path:
    """A snapshot of owner/name in the form that huggingface_hub keeps it."""
    root = cache / "models--owner--name"
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in names:
        (snapshot / name).parent.mkdir(exist_ok=True)
        (snapshot / name).write_text("{}", encoding="utf-8")
    if ref is not None:
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / ref).write_text(commit, encoding="utf-8")
    return snapshot


def message_of(source: str | Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        resolve_checkpoint(source, **options)
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    """A hub that answers from memory."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    fake = FakeHub(tmp_path / "cache", huggingface_hub.snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fake.model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


class FakeHub:
    """Stands in for the two functions of huggingface_hub that use the network; either can be made to raise."""

    def __init__(self, cache: Path, cached: Callable[..., str]) -> None:
        self.cache, self._cached = cache, cached
        self.files: tuple[str, ...] = CHECKPOINT_FILES
        self.lookup_error: Exception | None = None
        self.download_error: Exception | None = None
        self.asked: dict[str, Any] = {}

    def model_info(self, repo_id: str, **options: Any) -> Any:
        if self.lookup_error is not None:
            raise self.lookup_error
        return SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename=name, size=1_500_000) for name in self.files])

    def snapshot_download(self, repo_id: str, **options: Any) -> str:
        if options.get("local_files_only"):
            return self._cached(repo_id, **options)
        if self.download_error is not None:
            raise self.download_error
        self.asked = {"repo_id": repo_id, **options}
        return str(fill_cache(self.cache, *self.files))


def http_error(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    response: Any = SimpleNamespace(headers={}, request=None, status_code=status)
    return kind(f"{status} Client Error. authorization: Bearer {SECRET}", response=response)


def transport_error() -> Exception:
    """What the HTTP library raises when nobody answers."""
    return errors.HfHubHTTPError.__bases__[0](f"Illegal header value b'Bearer {SECRET}'")


def test_folder_is_taken_as_it_is(golden_checkpoint: Path) -> None:
    found = resolve_checkpoint(str(golden_checkpoint))
    assert found == ResolvedSource(golden_checkpoint)
    assert found.name == "nemotron_labs_diffusion"


def test_folder_needs_no_hub(golden_checkpoint: Path) -> None:
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\nfrom dlm_export.hub import resolve_checkpoint\nresolve_checkpoint(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(golden_checkpoint)], check=True)


def test_folder_goes_before_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_checkpoint("owner/name") == ResolvedSource(Path("owner/name"))


def test_folder_in_a_cache_says_whose_copy_it_is(tmp_path: Path) -> None:
    snapshot = fill_cache(tmp_path, *CHECKPOINT_FILES)
    found = resolve_checkpoint(snapshot)
    assert (found.path, found.repo_id, found.revision, found.name) == (snapshot, "owner/name", COMMIT, "name")


def test_folder_with_a_revision(golden_checkpoint: Path) -> None:
    assert "is a folder, and a revision is given" in message_of(golden_checkpoint, revision="main")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("", "''"),
        ("name", "name"),
        ("./missing/folder", "./missing/folder"),
        ("/missing/folder", "/missing/folder"),
        ("~nobody-of-that-name/folder", "~nobody"),
        ("a/b/c", "a/b/c"),
        ("owner/na me", "owner/na me"),
        ("owner/name--x", "owner/name--x"),
        ("owner/.name", "owner/.name"),
        ("owner\\name", "owner\\name"),
        ("own\0er/name", "own\0er/name"),
        ("x" * 5000, "xxx..."),
        (f"https://user:{SECRET}@huggingface.co/owner/name?token=1", "https://huggingface.co/owner/name"),
        (f"owner/{SECRET}/x", "owner/hf_.../x"),
    ],
)
def test_neither_folder_nor_id(source: str, shown: str) -> None:
    message = message_of(source)
    assert shown in message
    assert message.endswith("is neither a folder nor a Hugging Face id. Give a folder that holds config.json, or a Hugging Face id: "
                            "owner/name or owner/name@revision")  # fmt: skip
    assert "token=" not in message


def test_file_is_no_folder(golden_checkpoint: Path) -> None:
    assert "is a file, not a folder. Give the folder that holds it" in message_of(golden_checkpoint / "model.safetensors")


@pytest.mark.parametrize("revision", ["../../x", "/etc", "a b", "x..y", "-x", ""])
def test_malformed_revision(revision: str) -> None:
    assert "owner/name: has no revision" in message_of("owner/name", revision=revision)


def test_two_revisions() -> None:
    assert "disagree. Give one revision" in message_of("owner/name@v1", revision="v2")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("asked", ["main by default", "branch", "revision option", "commit"])
def test_offline_takes_the_cached_snapshot(tmp_path: Path, asked: str) -> None:
    snapshot = fill_cache(tmp_path, *CHECKPOINT_FILES, ref="main" if asked == "main by default" else "v1")
    source, revision = {
        "main by default": ("owner/name", None),
        "branch": ("owner/name@v1", None),
        "revision option": ("owner/name", "v1"),
        "commit": (f"owner/name@{COMMIT}", None),
    }[asked]
    assert resolve_checkpoint(source, revision=revision, cache=tmp_path) == ResolvedSource(snapshot, "owner/name", COMMIT)


@pytest.mark.usefixtures("offline")
def test_offline_and_not_cached(tmp_path: Path) -> None:
    message = message_of("owner/name", cache=tmp_path)
    assert message == "owner/name: is no folder here; HF_HUB_OFFLINE is set, and it is not in the cache. Unset HF_HUB_OFFLINE"


@pytest.mark.usefixtures("offline")
def test_offline_and_another_revision_cached(tmp_path: Path) -> None:
    fill_cache(tmp_path, *CHECKPOINT_FILES, commit=OLDER)
    assert f"is not in the cache in this revision; the cache holds {OLDER}" in message_of("owner/name@v2", cache=tmp_path)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("config.json", "pytorch_model.bin"),
            "owner/name/pytorch_model.bin: is a pickle, and loading a pickle runs whatever code",
        ),
        (("config.json",), "the cached copy holds neither model.safetensors nor model.safetensors.index.json"),
        (("model.safetensors",), "the cached copy holds no config.json"),
    ],
)
def test_offline_snapshot_that_cannot_be_used(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    fill_cache(tmp_path, *names)
    assert message in message_of("owner/name", cache=tmp_path)


def test_offline_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The variables as people set them: HF_HUB_OFFLINE and HF_HOME, no arguments."""
    fill_cache(tmp_path / "hub", *CHECKPOINT_FILES)
    code = "from dlm_export.hub import resolve_checkpoint as r\nprint(r('owner/name').revision)"
    variables = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = variables | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (COMMIT, "")


def test_download_takes_data_only_and_pins_the_commit(hub: FakeHub) -> None:
    hub.files = (*CHECKPOINT_FILES, "modeling_x.py", "pytorch_model.bin", "onnx/model.safetensors")
    said: list[str] = []
    found = resolve_checkpoint("owner/name@v1", cache=hub.cache, progress=said.append)
    assert found == ResolvedSource(hub.cache / "models--owner--name" / "snapshots" / COMMIT, "owner/name", COMMIT)
    assert found.name == "name"
    assert (hub.asked["repo_id"], hub.asked["revision"], hub.asked["cache_dir"]) == ("owner/name", "v1", hub.cache)
    assert (hub.asked["allow_patterns"], hub.asked["ignore_patterns"]) == (
        ["*.safetensors", "*.json", "*.jinja"],
        ["*/*", "consolidated*.safetensors"],
    )
    assert said == ["looking up owner/name@v1 on Hugging Face", "downloading owner/name@v1: 3 files, 4.5 MB"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors.index.json", True),
        ("chat_template.jinja", True),
        ("tokenizer_config.json", True),
        ("consolidated.safetensors", False),
        ("original/model.safetensors", False),
        ("pytorch_model.bin", False),
        ("weights.pt", False),
        ("modeling.py", False),
        ("model.gguf", False),
    ],
)
def test_which_files_are_wanted(name: str, wanted: bool) -> None:
    assert is_wanted(name) is wanted


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("config.json", "pytorch_model.bin"), "is a pickle"),
        (("config.json", "model.gguf", "sub/model.safetensors"), "it holds neither model.safetensors nor"),
        (("model.safetensors",), "it holds no config.json"),
        ((), "it holds neither"),
    ],
)
def test_repository_that_cannot_be_used_is_not_downloaded(hub: FakeHub, names: tuple[str, ...], message: str) -> None:
    hub.files = names
    assert message in message_of("owner/name", cache=hub.cache)
    assert hub.asked == {}


@pytest.mark.parametrize("when", ["lookup", "download"])
@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        (errors.RepositoryNotFoundError, 404, "is no folder here, and no repository on Hugging Face that you can see. Check the spelling"),
        (
            errors.RepositoryNotFoundError,
            401,
            "accept the licence on https://huggingface.co/owner/name and log in with `hf auth login`",
        ),
        (
            errors.GatedRepoError,
            403,
            "is gated, and you have no access. Accept the licence on https://huggingface.co/owner/name",
        ),
        (errors.RevisionNotFoundError, 404, "has no revision 'v1'"),
        (errors.DisabledRepoError, 403, "has been disabled on Hugging Face"),
        (errors.HfHubHTTPError, 401, "is not open to you (HTTP 401). Accept the licence on"),
        (errors.HfHubHTTPError, 403, "log in with `hf auth login`"),
        (errors.HfHubHTTPError, 400, "was refused by Hugging Face (HTTP 400)"),
        (errors.HfHubHTTPError, 503, "Hugging Face does not serve now (HTTP 503), and it"),
        (errors.HfHubHTTPError, 429, "Try again later"),
    ],
)
def test_refusals(hub: FakeHub, when: str, kind: type[errors.HfHubHTTPError], status: int, message: str) -> None:
    setattr(hub, f"{when}_error", http_error(kind, status))
    assert message in message_of("owner/name@v1", cache=hub.cache)


@pytest.mark.parametrize("error", [transport_error(), ConnectionError(SECRET), TimeoutError(SECRET), errors.OfflineModeIsEnabled(SECRET)])
def test_no_network_and_nothing_cached(hub: FakeHub, error: Exception) -> None:
    hub.lookup_error = error
    name = type(error).__name__
    expected = (
        f"owner/name: is no folder here; Hugging Face is out of reach ({name}), and it is not in the cache. Check the network and any proxy"
    )
    assert message_of("owner/name", cache=hub.cache) == expected


def test_no_network_takes_the_cached_snapshot_and_says_so(hub: FakeHub) -> None:
    snapshot = fill_cache(hub.cache, *CHECKPOINT_FILES)
    hub.lookup_error = transport_error()
    found = resolve_checkpoint("owner/name", cache=hub.cache)
    assert (found.path, found.revision) == (snapshot, COMMIT)
    assert found.notes == (f"Hugging Face is out of reach: the cached copy of owner/name was used, commit {COMMIT}.",)


@pytest.mark.parametrize("error", [transport_error(), errors.LocalEntryNotFoundError(SECRET), RuntimeError(SECRET)])
def test_network_that_goes_away_in_the_middle(hub: FakeHub, error: Exception) -> None:
    hub.download_error = error
    assert "and it was not downloaded whole. Check the network" in message_of("owner/name", cache=hub.cache)


def test_disk_that_is_full(hub: FakeHub) -> None:
    hub.download_error = OSError(28, "No space left on device")
    assert "cannot be stored in the cache (No space left on device). Make room" in message_of("owner/name", cache=hub.cache)


def test_mistakes_of_ours_are_not_dressed_up(hub: FakeHub) -> None:
    hub.lookup_error = TypeError("ours")
    with pytest.raises(TypeError, match="ours"):
        resolve_checkpoint("owner/name", cache=hub.cache)


@pytest.mark.usefixtures("offline")
def test_snapshot_that_is_known_to_be_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    incomplete = errors.LocalEntryNotFoundError("2 files are missing")
    vars(incomplete)["snapshot_path"] = str(tmp_path)  # newer versions have a class of their own, with this field

    def raise_it(*_: Any, **__: Any) -> str:
        raise incomplete

    monkeypatch.setattr(huggingface_hub, "snapshot_download", raise_it)
    assert "HF_HUB_OFFLINE is set, and it is only in part in the cache" in message_of("owner/name", cache=tmp_path)


def test_progress_of_a_download() -> None:
    said: list[str] = []
    kind = download_bar("downloading x", said.append)
    with kind(total=0, unit="B", unit_scale=True, name="huggingface_hub.snapshot_download", mininterval=0) as bar:
        bar.total = 3_000_000_000
        bar.update(1_200_000_000)
        bar.refresh()
    with kind(total=3, desc="Fetching 3 files") as files:
        files.update()
    assert said[-1] == "downloading x: 1.2 GB of 3.0 GB"


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (16.1e9, "16.1 GB"), (5e15, "5000.0 TB")])
def test_units(size: float, text: str) -> None:
    assert in_units(size) == text
