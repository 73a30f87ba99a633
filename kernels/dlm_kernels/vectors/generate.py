"""`python -m dlm_kernels.vectors.generate OUT [--large]`: write the test vectors, one `.bin` each, from the numpy reference.

Without `--large` the small ones, which are kept in the repository; with it those of real vocabularies (22 MB).
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

from dlm_kernels.unmask import parallel_unmask

from .case_file import UnmaskCase, write_case
from .recipes import LARGE, MASK, SMALL, Recipe
from .separation import too_close

ATTEMPTS = 400


def make_case(recipe: Recipe) -> UnmaskCase:
    """The first numbers, counted from a seed made of the name, with which no decision hangs on rounding."""
    first = zlib.crc32(recipe.name.encode())
    reasons: set[str | None] = set()
    for seed in range(first, first + ATTEMPTS):
        inputs = recipe.inputs(seed)
        reason = too_close(inputs, mask_token_id=MASK)
        if reason is None:
            expected = parallel_unmask(inputs, mask_token_id=MASK, top_k=recipe.top_k)
            return UnmaskCase(inputs, expected, MASK, recipe.top_k, recipe.logits_type)
        reasons.add(reason)
    raise ValueError(f"{recipe.name}: in {ATTEMPTS} attempts these stayed too close: {sorted(map(str, reasons))}; make the case smaller")


def main() -> None:
    """Write the files, and print their names and sizes."""
    parser = argparse.ArgumentParser(description="Write the test vectors of dlm::ParallelUnmask.")
    parser.add_argument("out", type=Path, help="folder for the .bin files")
    parser.add_argument("--large", action="store_true", help="those of 50257, 126464 and 151936 tokens instead of the small ones")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for recipe in LARGE if options.large else SMALL:
        path = options.out / f"{recipe.name}.bin"
        write_case(path, make_case(recipe))
        print(f"{path}  {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
