"""Draw codes from a fitted sampler, in the coordinates of the decoder that the posteriors belong to.

The output is .npy or .csv, written block by block so that any number fits, or .safetensors with one array `z`; all
hold (N, d) float32. The same seed gives the same codes, and more of them begin with the same.

example: aggregated-posterior sample sampler.safetensors -n 1000 -o z.npy
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..storage import DataError
from ..text import for_terminal
from .outputs import output_path

if TYPE_CHECKING:
    import numpy as np

    from ..generation.chosen_sampler import FittedSampler

SUMMARY = "draw codes from a fitted sampler"
# Bytes of a file that is put together in memory.
LARGEST_WHOLE = 4e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sample`."""
    parser.add_argument("sampler", metavar="SAMPLER", help="a file that `fit` wrote")
    parser.add_argument("-n", "--number", type=int, required=True, metavar="N", help="how many codes")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="a .npy, .csv or .safetensors file")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")


def run(options: argparse.Namespace) -> None:
    """Read a sampler, draw, write."""
    output = output_path(options.output, (".npy", ".csv", ".safetensors"), [options.sampler])
    if options.number < 1:
        raise DataError(f"--number: is {options.number}, expected 1 or more")
    if options.seed < 0:
        raise DataError(f"--seed: is {options.seed}, expected 0 or more")
    from ..generation.chosen_sampler import load_sampler

    sampler = load_sampler(options.sampler)
    _refuse_too_many(options.number, sampler.latent_dim, output)
    write_codes(sampler, options.number, options.seed, output)
    words = f"Wrote {output}: {options.number:,} codes in {sampler.latent_dim} dimensions, from {sampler.kind}."
    print(for_terminal(words))


def _refuse_too_many(number: int, latent_dim: int, path: Path) -> None:
    """Refuse numbers of codes that would fill the disc, or the memory where a file is written as a whole."""
    size = 4 * number * latent_dim
    folder = next((place for place in path.absolute().parents if place.is_dir()), Path("/"))
    if size > shutil.disk_usage(folder).free:
        raise DataError(f"--number: {number:,} codes take {_in_words(size)}, more than the disc has; ask for fewer")
    if path.suffix == ".safetensors" and size > LARGEST_WHOLE:
        raise DataError(
            f"--number: {number:,} codes take {_in_words(size)}, and a .safetensors file is written as a whole; "
            "name a .npy file"
        )


def _in_words(size: int) -> str:
    """Bytes in the unit in which they are a number of at least 1."""
    exponent, unit = next(((e, u) for e, u in ((9, "GB"), (6, "MB"), (3, "kB")) if size >= 10**e), (0, "bytes"))
    return f"{size / 10**exponent:,.0f} {unit}"


def write_codes(sampler: FittedSampler, number: int, seed: int, path: Path) -> None:
    """Write `number` codes, (number, d) float32, in the format that the path's ending names."""
    import numpy as np

    from ..storage import atomic_path, write_arrays

    def codes() -> Iterator[np.ndarray]:
        for block in sampler.blocks(number, seed=seed):
            if not (np.abs(block) <= np.finfo(np.float32).max).all():
                raise DataError(f"{path}: codes are too large for float32; rescale the decoder's coordinates")
            yield block.astype(np.float32)

    blocks = codes()
    if path.suffix == ".safetensors":
        write_arrays(path, {"z": np.concatenate(list(blocks))})
        return
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        if path.suffix == ".npy":
            header = {"descr": "<f4", "fortran_order": False, "shape": (number, sampler.latent_dim)}
            np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            if path.suffix == ".npy":
                stream.write(block.astype("<f4").tobytes())
            else:
                np.savetxt(stream, block, fmt="%.9g", delimiter=",")
