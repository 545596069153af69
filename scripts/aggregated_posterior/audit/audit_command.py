"""Audit the posteriors of a VAE: how far Q(z) is from N(0, I), in which dimensions, why, and what to do about it.

FILE holds `mean` (N, d) and one of `variance`, `log_variance`, `std` (N, d), or full covariances (N, d, d); optionally
the same with `_test` for held-out data, and `labels`, `groups`, `weights` (N,). Names that other code uses (mu, logvar,
loc, scale, z_mean, z_log_var, qzm, qzv, ...) are known. It may be a .npz, .safetensors, .h5ad or .csv file, a .npy file
beside --log-variance OTHER.npy, a folder of shards or of .npy files, or a pattern in quotes, "shards/part-*.npz".

example: aggregated-posterior audit posteriors.npz --html audit.html
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .._version import __version__
from ..storage import DataError, atomic_path, json_text, table_of_text
from ..text import for_terminal
from .outputs import input_files, place_of, refuse_unwritable

if TYPE_CHECKING:
    from ..posterior.foreign_files import Reading
    from ..posterior.splits import Posteriors
    from .auditing import Audit
    from .plan import Plan

SUMMARY = "audit a file of posterior means and variances"
# Columns without a terminal, and the fewest that a terminal is taken to have.
WITHOUT_TERMINAL, NARROWEST = 100, 40
FORMATS = ("json", "csv", "html", "figure")
STANDARD_OUTPUT = "-"
# A plan that takes longer than this, in seconds, is announced; a stage is named as often where no terminal shows it.
ANNOUNCED, PROGRESS_SECONDS = 5.0, 10.0
KEYS = {
    "mean": "means",
    "variance": "variances",
    "log_variance": "log-variances",
    "std": "standard deviations",
    "log_std": "logarithms of standard deviations",
    "covariance": "full covariances",
    "scale_tril": "Cholesky factors of full covariances",
    "groups": "groups: rows that belong together are held out together",
    "weights": "weights of the rows",
}


def add_arguments(audit: argparse.ArgumentParser) -> None:
    """The arguments of `audit`."""
    audit.add_argument("posteriors", metavar="FILE", help="posteriors; see above")
    out = audit.add_argument_group("what to write")
    out.add_argument("--json", metavar="FILE", help="write everything as JSON; - is standard output")
    out.add_argument("--csv", metavar="FILE", help="write one row per split and latent dimension")
    out.add_argument("--html", metavar="FILE", help="write one self-contained page")
    out.add_argument("--figure", metavar="FILE", help="write the figure as .svg, .pdf or .png")
    add_reading(audit)
    how = audit.add_argument_group("how to audit")
    how.add_argument("--prior", metavar="FILE", help="a prior of your own: draws, or means, variances and weights")
    how.add_argument("--active-threshold", type=float, default=0.05, metavar="NATS", help="default: 0.05")
    how.add_argument("--points", type=int, default=1000, metavar="N", help="draws where ln Q is evaluated (1000)")
    how.add_argument("--gmm-components", type=int, default=30, metavar="K", help="most components that are tried (30)")
    how.add_argument("--seed", type=int, default=0, help="of every draw (0)")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The arguments that say how FILE is to be read, the same for every command that reads posteriors."""
    reading = parser.add_argument_group("how to read FILE")
    for key, words in KEYS.items():
        reading.add_argument(f"--{key.replace('_', '-')}", metavar="KEY", help=f"name of the array of {words}")
    reading.add_argument("--labels", metavar="KEY", action="append", help="name of an array of labels; may be repeated")
    layouts = "of means (N, C, H, W): a row per position (channel, the default) or per image (flat)"
    reading.add_argument("--layout", choices=("channel", "flat"), help=layouts)
    reading.add_argument("--deterministic", action="store_true", help="the means are codes without variances")


def run(options: argparse.Namespace) -> None:
    """Audit every latent level of a file, write what was asked for, print the rest."""
    targets = _targets(options)
    if options.seed < 0:
        raise DataError(f"--seed: is {options.seed}, expected 0 or more")
    # After the arguments were checked: pandas and SciPy take their time to load.
    from ..posterior.foreign_files import read_levels

    levels = read_levels(options.posteriors, reading_of(options))
    _refuse_lost(targets, options, levels)
    for warning in next(iter(levels.values())).warnings:
        print(f"warning: {for_terminal(warning)}", file=sys.stderr)
    results: dict[str, Audit] = {}
    for level, posteriors in levels.items():
        name = f"{options.posteriors}{f', level {level}' if level else ''}"
        results[level] = result = _audited(posteriors, options, name)
        for warning in result.warnings[len(posteriors.warnings) :]:
            print(f"warning: {for_terminal(f'{name}: {warning}')}", file=sys.stderr)
    own = {level: level_words(posteriors) if level else [] for level, posteriors in levels.items()}
    _write(results, targets, options, own)
    if options.json != STANDARD_OUTPUT:
        for level, result in results.items():
            _show(result, f"{options.posteriors}{f', level {level}' if level else ''}")


def _audited(posteriors: Posteriors, options: argparse.Namespace, name: str) -> Audit:
    from .auditing import audit_posteriors

    try:
        with _progress() as progress:
            return audit_posteriors(
                posteriors,
                active_threshold=options.active_threshold,
                points=options.points,
                gmm_components=options.gmm_components,
                prior=options.prior,
                seed=options.seed,
                progress=progress,
                announce=_announce,
            )
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def reading_of(options: argparse.Namespace) -> Reading:
    """How the options say that FILE is to be read."""
    from ..posterior.foreign_files import Reading

    keys = {key: value for key in KEYS if (value := getattr(options, key)) is not None}
    if options.labels:
        keys["labels"] = tuple(options.labels)
    return Reading(keys, options.layout, options.deterministic)


def reading_words(options: argparse.Namespace) -> list[str]:
    """The options of `add_reading` as words of a command line, which read FILE in the same way again."""
    # With =, since a name may begin with a dash.
    words = [f"--{key.replace('_', '-')}={value}" for key in KEYS if (value := getattr(options, key)) is not None]
    words += [f"--labels={name}" for name in options.labels or ()]
    words += [f"--layout={options.layout}"] if options.layout else []
    return words + (["--deterministic"] if options.deterministic else [])


def level_words(posteriors: Posteriors) -> list[str]:
    """The options that read this latent level of a file of several, and no other."""
    from ..posterior.foreign_files import meaning

    mean, spread = posteriors.train.names
    if mean == spread:  # codes without variances
        return [f"--mean={mean}"]
    return [f"--mean={mean}", f"--{meaning(spread)[0].replace('_', '-')}={spread}"]


def read_one(options: argparse.Namespace) -> Posteriors:
    """The posteriors of FILE, where it holds one latent level.

    Raises:
        DataError: It cannot be read, or holds several levels.
    """
    from ..posterior.foreign_files import read_levels

    levels = read_levels(options.posteriors, reading_of(options))
    first = next(iter(levels.values()))
    if len(levels) > 1:
        raise DataError(
            f"{options.posteriors}: holds {len(levels)} latent levels; name one: {' '.join(level_words(first))}"
        )
    return first


def _announce(plan: Plan) -> None:
    """Say what will be done and what not, before it is; small inputs that are done at once need no announcement."""
    if plan.seconds >= ANNOUNCED or plan.left_out:
        print(f"audit: {plan.sentence()}", file=sys.stderr)
        for sentence in plan.left_out:
            print(f"left out: {sentence}", file=sys.stderr)


def _write(
    results: dict[str, Audit], targets: dict[str, Path], options: argparse.Namespace, own: dict[str, list[str]]
) -> None:
    """All contents are made and lie on the disc before the first file has its name: all are written, or none.

    Of several levels each has its own file, JSON has them all; `own` are the options that read one level.
    """
    json_path = targets.pop("json", None)
    contents = {}
    for kind, path in targets.items():
        for level, result in results.items():
            contents[_of_level(path, level)] = _content(result, kind, path, options, level, own[level])
    whole = {level: result.to_dict() for level, result in results.items()}
    text = json_text({"source": options.posteriors, "version": __version__, **whole.get("", {"levels": whole})})
    if json_path is not None and str(json_path) != STANDARD_OUTPUT:
        # A name that is no UTF-8 is written out, as `storage.write_text` does.
        contents[json_path] = text.encode(errors="backslashreplace")
    with ExitStack() as stack:
        for path, content in contents.items():
            stack.enter_context(atomic_path(path)).write_bytes(content)
    if str(json_path) == STANDARD_OUTPUT:
        sys.stdout.write(text)
        sys.stdout.flush()


def _targets(options: argparse.Namespace) -> dict[str, Path]:
    """Where to write what, refused before any work where it cannot succeed."""
    targets = {kind: Path(value) for kind in FORMATS if (value := getattr(options, kind)) is not None}
    for kind, path in targets.items():
        if kind == "json" and str(path) == STANDARD_OUTPUT:
            continue
        if str(path) == STANDARD_OUTPUT:
            raise DataError(f"--{kind}: only --json goes to standard output; name a file")
        if path.is_dir():
            raise DataError(f"--{kind}: {path} is a folder; name a file")
    _refuse_lost(targets, options)
    for kind, path in targets.items():
        if str(path) != STANDARD_OUTPUT:
            refuse_unwritable(f"--{kind}", path)
    figure = targets.get("figure")
    if figure is not None and figure.suffix not in (".svg", ".pdf", ".png"):
        raise DataError(f"--figure: {figure} ends in {figure.suffix or 'nothing'!r}; expected .svg, .pdf or .png")
    return targets


def _refuse_lost(targets: dict[str, Path], options: argparse.Namespace, levels: Iterable[str] = ("",)) -> None:
    """Refuse outputs of which one would replace another, or a file that is read."""
    inputs, seen = input_files(options), set()
    for kind, path in targets.items():
        for file in {path if kind == "json" else _of_level(path, level) for level in levels}:
            place = place_of(file)
            if place in inputs and str(file) != STANDARD_OUTPUT:
                raise DataError(f"--{kind}: {file} is the input itself; name another file")
            if place in seen:
                raise DataError(f"--{kind}: {file} has the same name as another output; give each its own file")
            seen.add(place)


def _of_level(path: Path, level: str) -> Path:
    return path.with_name(f"{path.stem}_level_{level}{path.suffix}") if level else path


def _content(result: Audit, kind: str, path: Path, options: argparse.Namespace, level: str, own: list[str]) -> bytes:
    from .page import html_page
    from .report import figure_bytes

    if kind == "figure":
        return figure_bytes(result, path.suffix[1:])
    if kind == "html":
        return html_page(result, options.posteriors, [*reading_words(options), *own], level).encode()
    table = table_of_text(result.dimensions)  # columns bear the names of labels
    return table.to_csv(index=False, float_format="%.12g", lineterminator="\n").encode()


def _show(result: Audit, source: str) -> None:
    from rich.console import Console

    from .report import print_audit

    # Written as a whole, so that a closed pipe is noticed in one place.
    terminal = Console()
    width = max(terminal.width, NARROWEST) if terminal.is_terminal or "COLUMNS" in os.environ else WITHOUT_TERMINAL
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal.is_terminal, no_color=terminal.no_color)
    print_audit(result, source, console)
    sys.stdout.write(console.file.getvalue())
    sys.stdout.flush()


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Name the stage: on a terminal always, and without one in a line every ten seconds."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("audit") as status:
            yield lambda stage: status.update(f"audit: {stage}")
        return
    stages, ended, begin = ["reading"], threading.Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(PROGRESS_SECONDS):
            print(f"audit: {stages[-1]}, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield stages.append
    finally:
        ended.set()
        thread.join()
