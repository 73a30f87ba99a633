"""What huggingface_hub raises, in sentences. Messages of the hub are never passed on: they can quote headers and signed addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import CheckpointError

LOG_IN = "log in with `hf auth login`"
GIVE_EITHER = "Give a folder that holds config.json, or a Hugging Face id: owner/name or owner/name@revision"
SECRETS = ((re.compile(r"hf_\w+"), "hf_..."), (re.compile(r"(?<=://)[^/@]*@"), ""), (re.compile(r"(?<=[^?])\?.*"), ""))
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class HubProblem:
    """Why the hub is out of reach: the start of a sentence, and how to change that. What lies in the cache may still do."""

    reason: str
    remedy: str

    def error(self, repo_id: str, problem: str) -> CheckpointError:
        """The error, where the cache does not do."""
        return CheckpointError(repo_id, f"{self.reason} {problem}", self.remedy)


def hub_problem(error: Exception, repo_id: str, revision: str | None) -> CheckpointError | HubProblem:
    """What went wrong: a CheckpointError where the answer is final, a HubProblem where no answer came."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repo_id}"
    if isinstance(error, errors.GatedRepoError):  # before the next, of which it is a kind
        return CheckpointError(repo_id, "is gated, and you have no access", f"Accept the licence on {page} and {LOG_IN}")
    if isinstance(error, errors.RepositoryNotFoundError):
        problem = "is no folder here, and no repository on Hugging Face that you can see"
        return CheckpointError(
            repo_id, problem, f"Check the spelling; if it is private or gated, accept the licence on {page} and {LOG_IN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(repo_id, f"has no revision {revision!r}", f"Its branches, tags and commits are listed on {page}/tree/main")
    if isinstance(error, errors.DisabledRepoError):
        return CheckpointError(repo_id, "has been disabled on Hugging Face", f"See {page}")
    if isinstance(error, errors.HfHubHTTPError) and not isinstance(error, errors.LocalEntryNotFoundError):  # one was the other up to 0.x
        return answered(getattr(error.response, "status_code", None), repo_id, page)
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError | TimeoutError):
        return CheckpointError(repo_id, f"cannot be stored in the cache ({error.strerror})", "Make room, or set HF_HOME to another folder")
    if isinstance(error, errors.LocalEntryNotFoundError | OSError | TimeoutError | RuntimeError | errors.OfflineModeIsEnabled) or (
        is_transport_error(error)
    ):
        return HubProblem(f"Hugging Face is out of reach ({type(error).__name__}), and it", "Check the network and any proxy")
    raise error


def answered(status: int | None, repo_id: str, page: str) -> CheckpointError | HubProblem:
    """An answer with an HTTP error code that has no class of its own."""
    if status in (401, 403):
        return CheckpointError(repo_id, f"is not open to you (HTTP {status})", f"Accept the licence on {page} and {LOG_IN}")
    if status is None or status == 429 or status >= 500:
        return HubProblem(f"Hugging Face does not serve now (HTTP {status}), and it", "Try again later")
    return CheckpointError(repo_id, f"was refused by Hugging Face (HTTP {status})", f"See {page}")


def is_transport_error(error: Exception) -> bool:
    """Whether the HTTP library that huggingface_hub builds on raised this, without an answer from the other side."""
    from huggingface_hub.errors import HfHubHTTPError

    base = HfHubHTTPError.__bases__[0]  # httpx's or requests' own base class, whichever this version uses
    return isinstance(error, base)


def neither_folder_nor_id(source: str) -> CheckpointError:
    """A source that is no folder and could be no id either."""
    try:
        exists = Path(source).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        exists = False
    if exists:
        return CheckpointError(source, "is a file, not a folder", "Give the folder that holds it and config.json")
    return CheckpointError(without_secrets(source) or "''", "is neither a folder nor a Hugging Face id", GIVE_EITHER)


def without_secrets(text: str) -> str:
    """What somebody typed, fit for a message: no access tokens, no user and query parts of addresses, not too long."""
    for pattern, put in SECRETS:
        text = pattern.sub(put, text)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
