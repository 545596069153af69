"""Fit the best sampler for a VAE's posteriors, chosen on held-out rows, and write it as one file without code in it.

Candidates: the prior N(0, I), the prior rescaled, one normal law, and mixtures of normal laws, diagonal or full. The
table says what each gains over the prior in nats per code on rows that it was not fitted to.

example: aggregated-posterior fit posteriors.npz -o sampler.safetensors
"""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from typing import TYPE_CHECKING

from ..storage import DataError
from ..text import for_terminal
from .audit_command import add_reading, read_one
from .outputs import input_files, no_option, output_path

if TYPE_CHECKING:
    from ..generation.chosen_sampler import FittedSampler

SUMMARY = "fit the best sampler for the posteriors of a file"
# One-sided 95 %.
ONE_SIDED = 1.645


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fit`."""
    parser.add_argument("posteriors", metavar="FILE", help="posteriors, as for `audit`")
    add_reading(parser)
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the sampler, a .safetensors file")
    parser.add_argument("--active-threshold", type=float, default=0.05, metavar="NATS", help="default: 0.05")
    parser.add_argument("--seed", type=int, default=0, help="of every draw (0)")


def run(options: argparse.Namespace) -> None:
    """Read posteriors, choose a sampler, write it, print the table."""
    output = output_path(options.output, (".safetensors",), input_files(options))
    if options.seed < 0:
        raise DataError(f"--seed: is {options.seed}, expected 0 or more")
    from ..generation.chosen_sampler import choose_sampler

    posteriors = read_one(options)
    for warning in posteriors.warnings:
        print(f"warning: {for_terminal(warning)}", file=sys.stderr)
    try:
        sampler = choose_sampler(
            posteriors,
            active_threshold=options.active_threshold,
            seed=options.seed,
            progress=lambda stage: print(f"fit: {stage}", file=sys.stderr),
        )
    except DataError as error:
        raise DataError(f"{options.posteriors}: {error}") from None
    for note in sampler.about["notes"]:
        print(f"warning: {for_terminal(note)}", file=sys.stderr)
    sampler.save(output)
    print(describe(sampler))
    print(f"\nWrote {for_terminal(output)}. Draw codes for your decoder with\n")
    name = no_option(str(output))
    print(f"  aggregated-posterior sample {shlex.quote(for_terminal(name))} -n 1000 -o z.npy")


def describe(sampler: FittedSampler) -> str:
    """The table of candidates and the verdict, at most 80 columns."""
    about = sampler.about
    lines = [
        f"{about['rows_fitted']:,} rows to fit, {about['rows_held_out']:,} to judge",
        *textwrap.wrap(f"held-out rows: {about['held_out']}", 80),
        f"{len(sampler.active) or 'no'} of {sampler.latent_dim} dimensions fitted",
        f"{'candidate':<28}{'gain over the prior, nats per code':>36}",
    ]
    if about["outliers_left_out"]:
        lines.insert(
            1, f"{about['outliers_left_out']} row(s) far outside all others were left out of fit and judgement"
        )
    for row in sampler.candidates_.to_dict("records"):
        value = f"{row['gain']:+10.3f} ± {row['gain_se']:.3f}"
        if row["left_out"]:
            value = f"not tried: {row['left_out']}"
        elif row["candidate"] == "prior":
            value = f"{'0':>10}"
        mark = "  ← chosen" if row["chosen"] else ""
        lines.append(f"{row['candidate']:<28}{value}{mark}")
    return "\n".join([*lines, "", textwrap.fill(verdict(sampler), 80)])


def verdict(sampler: FittedSampler) -> str:
    """One sentence: what was chosen, what it gains, or that nothing beats the prior."""
    if sampler.kind == "prior":
        return "Nothing beats the prior on these rows: sample N(0, I) as you do."
    row = sampler.candidates_[sampler.candidates_["chosen"]].iloc[0]
    low = row["gain"] - ONE_SIDED * row["gain_se"]
    return f"{sampler.kind}: gains {row['gain']:.3g} nats per code over the prior (at least {low:.3g}, 95 %)."
