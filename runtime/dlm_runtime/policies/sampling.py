"""How tokens of a line are drawn: the numbers a caller may set."""

from __future__ import annotations

from dataclasses import dataclass

RECENT_TOKENS = 64
"""How many of the latest tokens of a line a repetition penalty looks at."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """The defaults take the likeliest token, undistorted.

    `top_k` 0 and `top_p` 1 keep all tokens. Where both cut, `top_k` comes first and `top_p` counts the mass of what it left, as in Hugging
    Face, unless `top_p_first` (Dream). `repetition_penalty` > 1 makes tokens less likely that the line, its
    prompt aside, already holds among its latest `RECENT_TOKENS` (Keskar et al.
    2019, as Hugging Face has it: positive logits divided, negative ones multiplied). `guidance` is LLaDA's classifier-free guidance
    scale; `guidance_keeps` are tokens of the prompt that the twin does not mask (dllm's `cfg_keep_tokens`). `banned_token_ids` cannot be
    drawn; None bans what the manifest does, the mask and the control tokens.
    Raises ValueError on numbers that no model can use.
    """

    temperature: float = 0.0
    seed: int = 0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    guidance: float = 0.0
    top_p_first: bool = False
    guidance_keeps: tuple[int, ...] = ()
    banned_token_ids: tuple[int, ...] | None = None

    @property
    def sample_top_k(self) -> int:
        """`top_k` as the step graph wants it: negative where `top_p` comes first."""
        return -self.top_k if self.top_p_first else self.top_k

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"{self.temperature=} must be at least 0")
        if self.top_k < 0:
            raise ValueError(f"{self.top_k=} must be at least 0; 0 keeps all")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"{self.top_p=} must be above 0 and at most 1; 1 keeps all")
        if not self.repetition_penalty > 0:
            raise ValueError(f"{self.repetition_penalty=} must be above 0; 1 is none")
        if self.guidance < 0:
            raise ValueError(f"{self.guidance=} must be at least 0; 0 is none")
