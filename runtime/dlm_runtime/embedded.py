"""Where the tavern lives: the model and the characters that come with the project."""

from __future__ import annotations

from pathlib import Path

from dlm_runtime.errors import BundleError

_PACKAGE = Path(__file__).resolve().parent / "_tavern"  # in an installed wheel
_CHECKOUT = Path(__file__).resolve().parents[2] / "samples" / "tavern"  # in a source checkout


def tavern_bundle() -> Path:
    """Folder of the embedded bundle. Raises `BundleError` when this installation has none."""
    return _find("bundle", "manifest.json", "--bundle")


def tavern_characters() -> Path:
    """Folder of the tavern's character files. Raises `BundleError` when this installation has none."""
    return _find("characters", "*.yaml", "--characters")


def tavern_players() -> Path:
    """File with what players say to the tavern's characters. Raises `BundleError` when this installation has none."""
    return _find("", "players.yaml", "--players") / "players.yaml"


def _find(name: str, sign: str, option: str) -> Path:
    for root in (_PACKAGE, _CHECKOUT):
        if any((root / name).glob(sign)):
            return root / name
    raise BundleError(_PACKAGE / name, "the embedded tavern is not in this installation", f"Give a folder with {option}")
