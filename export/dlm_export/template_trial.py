"""A trial of a chat template at export, so that one that cannot be rendered is found before somebody waits for a line.

The template came with the checkpoint, and the sandbox that keeps it from Python's insides does not keep it from looping or from filling
the memory. So it is rendered in a process of its own, `python -m dlm_export.template_trial`, with limits on time and memory.
"""

from __future__ import annotations

import json
import subprocess
import sys

TIME_LIMIT_S = 15.0
MEMORY_LIMIT_BYTES = 2**31
SHOWN_CHARACTERS = 200


def template_problem(template: str, *, time_limit_s: float = TIME_LIMIT_S) -> str | None:
    """Why the runtime could not build prompts with a chat template, None where it can."""
    command = [sys.executable, "-P", "-m", __name__]  # -P: modules that lie in the current folder, perhaps beside the template, stay out
    try:
        trial = subprocess.run(command, input=json.dumps(template).encode(), capture_output=True, timeout=time_limit_s, check=True)
        problem = json.loads(trial.stdout)
    except subprocess.TimeoutExpired:
        return f"it was not done after {time_limit_s:g} s"
    except (subprocess.CalledProcessError, ValueError):
        return "it brought the process down that rendered it, most likely for want of memory"
    except OSError as error:
        return f"no process could be started to try it ({error.strerror})"
    return problem


def render(template: str) -> str | None:
    """Render as the runtime does: a card, no history and one turn of it, and what the player says. The reason where that fails."""
    from dlm_runtime.dialogue.template import ChatTemplate
    from dlm_runtime.dialogue.turn import Turn
    from dlm_runtime.errors import BundleError

    try:
        chat = ChatTemplate(template)
        for history in ((), (Turn("Is the bridge open?", "It is."),)):
            chat.render("You keep the gate.", history, "Let me pass.")
    except BundleError as error:
        problem = error.problem.removeprefix("chat_template: ") or type(error.__cause__).__name__  # some errors have no text
    except Exception as error:  # compiling can fail in other ways than jinja's own
        problem = f"{type(error).__name__}: {error}"
    else:
        return None
    words = " ".join(problem.split())
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[:SHOWN_CHARACTERS]}..."


def limit_memory() -> None:
    """Let a runaway allocation fail, where the system can limit one process."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    except (ImportError, OSError, ValueError):  # Windows, or a limit below this one
        pass


if __name__ == "__main__":
    limit_memory()
    sys.stdout.write(json.dumps(render(json.loads(sys.stdin.buffer.read()))))
