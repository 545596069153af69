"""Write the free rescaling of a latent space: shift and scale that give Q(z) mean 0 and variance 1 per dimension.

The file holds shift and scale, canonical = (z - shift)·scale, and the same in the words of latent diffusion:
latents_mean and latents_std per dimension or channel, shift_factor and scaling_factor for all of them together.
Reconstructions do not change when encoder and decoder are changed with it (`model.folding.fold_into`).

example: aggregated-posterior canonical posteriors.npz -o shift_scale.safetensors
"""

from __future__ import annotations

import argparse
import sys

from ..storage import DataError
from ..text import for_terminal
from .audit_command import add_reading, read_one
from .outputs import input_files, output_path

SUMMARY = "write shift and scale that make mean 0 and variance 1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `canonical`."""
    parser.add_argument("posteriors", metavar="FILE", help="posteriors, as for `audit`")
    add_reading(parser)
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="a .safetensors file")


def run(options: argparse.Namespace) -> None:
    """Read posteriors, write their canonical form, say what it saves."""
    output = output_path(options.output, (".safetensors",), input_files(options))
    from ..posterior.gauge import canonical_form
    from ..posterior.other_laws import Codes
    from ..posterior.outliers import without_outliers
    from ..posterior.resolution import refuse_unresolved
    from ..storage import write_arrays
    from .fitting import canonical_arrays

    posteriors = read_one(options)
    q, kept, outliers = without_outliers(posteriors.train)
    notes = list(posteriors.warnings)
    if outliers:
        rows = len({outlier.row for outlier in outliers})
        what = "were left out of the moments"
        if kept.all():
            what = "are part of the moments, because the file is too large to be changed; leave them out there"
        notes.append(f"{options.posteriors}: {rows} row(s) far outside all others {what}. {outliers[0].sentence()}")
    for note in notes:
        print(f"warning: {for_terminal(note)}", file=sys.stderr)
    if isinstance(q, Codes):
        try:
            refuse_unresolved(q)
        except DataError as error:
            raise DataError(f"{options.posteriors}: {error}") from None
    canonical = canonical_form(q)
    arrays = canonical_arrays(canonical)
    saved, kl = float(canonical.slack.sum()), q.joint_kl()
    write_arrays(output, arrays, {"rows": q.n, "mean_kl": kl, "kl_saved": saved})
    print(f"Wrote {for_terminal(output)}: canonical = (z - shift)·scale, {q.latent_dim} dimensions.")
    if not isinstance(q, Codes):  # which have no KL term
        print(f"It takes {saved:.4g} of {kl:.4g} nats off the KL term and changes no reconstruction.")
    print(f"shift_factor = {arrays['shift_factor'][0]:.6g}, scaling_factor = {arrays['scaling_factor'][0]:.6g}")
