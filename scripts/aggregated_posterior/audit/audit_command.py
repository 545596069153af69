"""Audit the posteriors of a VAE: how far Q(z) is from N(0, I), in which dimensions, why, and what to do about it.

A .npz or .safetensors FILE holds `mean` (N, d) and one of `variance`, `log_variance`, `std`; optionally the same with
`_test` for held-out data, and `labels` (N,).
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .._version import __version__
from ..storage import DataError, atomic_path, write_json

if TYPE_CHECKING:
    from ..posterior.splits import Posteriors
    from .auditing import Audit

SUMMARY = "audit a file of posterior means and variances"
NARROWEST = 100
FORMATS = ("json", "csv", "html", "figure")


def add_arguments(audit: argparse.ArgumentParser) -> None:
    """The arguments of `audit`."""
    audit.add_argument("posteriors", metavar="FILE", help="a .npz or .safetensors file")
    audit.add_argument("--json", metavar="FILE", help="write everything as JSON")
    audit.add_argument("--csv", metavar="FILE", help="write one row per split and latent dimension")
    audit.add_argument("--html", metavar="FILE", help="write one self-contained page")
    audit.add_argument("--figure", metavar="FILE", help="write the figure as .svg, .pdf or .png")
    audit.add_argument("--active-threshold", type=float, default=0.05, metavar="NATS", help="default: 0.05")
    audit.add_argument("--points", type=int, default=2000, metavar="N", help="draws where ln Q is evaluated (2000)")
    audit.add_argument("--gmm-components", type=int, default=10, metavar="K", help="of the certified bound (10)")
    audit.add_argument("--seed", type=int, default=0, help="of every draw (0)")


def run(options: argparse.Namespace) -> None:
    """Audit a file, write what was asked for, print the rest."""
    targets = _targets(options)
    if options.seed < 0:
        raise DataError(f"--seed: is {options.seed}, expected 0 or more")
    # After the arguments were checked: pandas and SciPy take their time to load.
    from ..posterior.foreign_files import read_posteriors
    from .auditing import audit_posteriors

    posteriors = read_posteriors(options.posteriors)
    for warning in posteriors.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    with _progress(posteriors) as progress:
        result = audit_posteriors(
            posteriors,
            active_threshold=options.active_threshold,
            points=options.points,
            gmm_components=options.gmm_components,
            seed=options.seed,
            progress=progress,
        )
    json_path = targets.pop("json", None)
    # All are made before the first is written.
    contents = {path: _content(result, kind, path, options.posteriors) for kind, path in targets.items()}
    for path, content in contents.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    if json_path is not None:
        write_json(json_path, {"source": options.posteriors, "version": __version__, **result.to_dict()})
    _show(result, options.posteriors)


def _targets(options: argparse.Namespace) -> dict[str, Path]:
    """Where to write what, refused before any work where it cannot succeed."""
    targets = {kind: Path(value) for kind in FORMATS if (value := getattr(options, kind)) is not None}
    for kind, path in targets.items():
        if path.is_dir():
            raise DataError(f"--{kind}: {path} is a folder; name a file")
        if path.resolve() == Path(options.posteriors).resolve():
            raise DataError(f"--{kind}: {path} is the input itself; name another file")
    if len({path.resolve() for path in targets.values()}) < len(targets):
        raise DataError("two outputs have the same name; give each its own file")
    figure = targets.get("figure")
    if figure is not None and figure.suffix not in (".svg", ".pdf", ".png"):
        raise DataError(f"--figure: {figure} ends in {figure.suffix or 'nothing'!r}; expected .svg, .pdf or .png")
    return targets


def _content(result: Audit, kind: str, path: Path, source: str) -> bytes:
    from .page import html_page
    from .report import figure_bytes

    if kind == "figure":
        return figure_bytes(result, path.suffix[1:])
    if kind == "html":
        return html_page(result, source).encode()
    return result.dimensions.to_csv(index=False, float_format="%.12g", lineterminator="\n").encode()


def _show(result: Audit, source: str) -> None:
    from rich.console import Console

    from .report import print_audit

    # Written as a whole, so that a closed pipe is noticed in one place. Without a terminal rich assumes 80 columns,
    # which would cut the tables.
    terminal = Console()
    width = max(terminal.width, 60) if terminal.is_terminal else NARROWEST
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal.is_terminal, no_color=terminal.no_color)
    print_audit(result, source, console)
    sys.stdout.write(console.file.getvalue())
    sys.stdout.flush()


@contextmanager
def _progress(posteriors: Posteriors) -> Iterator[Callable[[str], None]]:
    """Name the stage on a terminal's standard error. Long inputs have progress bars of their own (`mixture`)."""
    from rich.console import Console

    from ..posterior.mixture import LONG_INPUT

    console = Console(stderr=True)
    if not console.is_terminal or posteriors.train.mean.size > LONG_INPUT:
        yield lambda stage: None
        return
    with console.status("audit") as status:
        yield lambda stage: status.update(f"audit: {stage}")
