"""How the kernels are cut: what is known when they are compiled."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK_TOKENS = 2048  # 8 for each of 256 threads: enough loads in flight, few enough registers
LARGEST_BLOCK = 65_536
PAIRS = 8192  # positions compared at a time
LARGEST_WINDOW = 4096
LARGEST_TOP_K = 64


def power_of_two(number: int) -> int:
    """The smallest one that is not below `number`."""
    return 1 << max(number - 1, 0).bit_length()


@dataclass(frozen=True)
class LaunchSizes:
    """The sizes of one launch, and the constants that follow from them."""

    window: int  # W
    vocab: int  # V
    top_k: int  # K
    block_tokens: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= min(self.vocab, LARGEST_TOP_K):
            raise ValueError(f"top_k={self.top_k} must lie between 1 and {min(self.vocab, LARGEST_TOP_K)} (vocabulary {self.vocab})")
        if not 1 <= self.window <= LARGEST_WINDOW:
            raise ValueError(f"window={self.window} must lie between 1 and {LARGEST_WINDOW}; split the window")
        block = self.block_tokens
        if block is not None and (not 2 <= block <= LARGEST_BLOCK or block != power_of_two(block)):
            raise ValueError(f"block_tokens={block} must be a power of two between 2 and {LARGEST_BLOCK}")

    @property
    def block(self) -> int:
        """Logits that a program of the measuring kernel reads at a time."""
        return self.block_tokens or max(min(power_of_two(self.vocab), BLOCK_TOKENS), 2)

    @property
    def slots(self) -> int:
        """Entries of the list of the likeliest; two at least, for the margin."""
        return max(power_of_two(self.top_k), 2)

    @property
    def own(self) -> int:
        """Positions of a row, filled up to a power of two."""
        return max(power_of_two(self.window), 2)

    @property
    def rivals(self) -> int:
        """Positions that all of a row are compared with at a time."""
        return min(self.own, max(PAIRS // self.own, 2))

    @property
    def measure_warps(self) -> int:
        """Warps of 32 threads per window position."""
        return 8 if self.block >= BLOCK_TOKENS else 4

    @property
    def commit_warps(self) -> int:
        """Warps of 32 threads per row."""
        return 4
