"""The command `aggregated-posterior`, or `python -m aggregated_posterior`: one subcommand per module of `COMMANDS`.

Exit status: 0 for finished work, 2 for input or arguments that cannot be used (one line says which, and no file is
written), 1 for an estimate that contradicts arithmetic, 130 where it was interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import itertools
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NoReturn

from .._version import __version__
from ..storage import DataError
from ..text import for_terminal, prepare_streams

BAD_INPUT = 2
# 128 + SIGINT, as shells have it.
INTERRUPTED = 130
# Subcommand → module of this room. Each has `SUMMARY` (one line), `add_arguments(parser)` and `run(options)`, imports
# nothing heavy at its top, and raises DataError or OSError for what cannot be used.
COMMANDS = {
    "audit": "audit_command", "fit": "fit_command", "sample": "sample_command", "canonical": "canonical_command",
}  # fmt: skip
# What to ask less of where the memory does not suffice.
LESS = {"audit": "lower --points or --gmm-components, or give fewer rows", "sample": "lower --number"}


class _Parser(argparse.ArgumentParser):
    """Wrong arguments are one line, like every other error of the command."""

    def error(self, message: str) -> NoReturn:
        raise DataError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process) and return its exit status."""
    prepare_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # What a scheduler sends: what Ctrl-C cleans up is cleaned up then, too.
        with suppress(ValueError):  # not in a thread, which no signal reaches
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        options = _parse(arguments)
        options.run(options)
    except BrokenPipeError:  # the reader of standard output has seen enough, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (DataError, OSError) as error:
        return _fail(error, BAD_INPUT)
    except KeyboardInterrupt:
        return _fail("interrupted; no file was left half written", INTERRUPTED)
    except MemoryError as error:
        less = LESS.get(arguments[0], "give fewer rows")
        return _fail(
            f"{arguments[0]}: the memory does not suffice ({str(error) or 'no more is known'}); {less}", BAD_INPUT
        )
    except ArithmeticError as error:
        return _fail(f"{arguments[1] if len(arguments) > 1 else arguments[0]}: {error}; please report this", 1)
    return 0


def nearest(word: str, known: Iterable[str]) -> str:
    """What to say of an unknown word: the one that was probably meant, or all that are known."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="aggregated-posterior",
        description="How far the aggregated posterior Q(z) of a VAE is from N(0, I), why, and what to do about it.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", parser_class=_Parser)
    of_command: dict[str, argparse.ArgumentParser] = {}
    for name, module_name in COMMANDS.items():
        module = importlib.import_module(f".{module_name}", __package__)
        sub = commands.add_parser(name, help=module.SUMMARY, description=module.__doc__, allow_abbrev=False)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
        of_command[name] = sub
    first = next((word for word in arguments if not word.startswith("-")), None)
    if first is not None and first not in COMMANDS:
        raise DataError(f"there is no command {first!r}: {nearest(first, COMMANDS)}")
    if first is not None:
        _refuse_dashed_files(arguments, of_command[first]._option_string_actions)
    options, unknown = parser.parse_known_args(arguments)
    if options.command is None:
        raise DataError(f"name a command ({', '.join(COMMANDS)}); see aggregated-posterior --help")
    if unknown:
        known = of_command[options.command]._option_string_actions
        word = unknown[0].split("=")[0]
        says = nearest(word, known) if word.startswith("-") else "one file at a time, with its options"
        says = "options stand before --, the file behind it" if word in known else says
        raise DataError(f"{options.command}: unknown argument {word!r}: {says}")
    return options


def _refuse_dashed_files(arguments: list[str], known: Iterable[str]) -> None:
    """A file whose name begins with a dash is taken for an option."""
    for word in itertools.takewhile(lambda word: word != "--", arguments):
        if word.startswith("-") and word != "-" and not {word, word[:2]} & {*known} and os.path.lexists(word):
            raise DataError(f"{word} is taken for an option; name the file as ./{word}")


def _fail(message: object, status: int) -> int:
    print(f"error: {for_terminal(' '.join(str(message).split()))}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
