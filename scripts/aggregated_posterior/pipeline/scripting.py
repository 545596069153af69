"""What every pipeline script needs around its one call: a log file, and errors that a person can read."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TextIO

from threadpoolctl import threadpool_limits

from ..storage import LONGEST_MESSAGE, DataError
from ..text import for_terminal


class _Tee:
    """A text stream that writes to several streams."""

    def __init__(self, *streams: TextIO) -> None:
        self.streams = streams

    def write(self, text: str) -> int:
        for stream in self.streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self.streams:
            stream.flush()

    def isatty(self) -> bool:
        # Progress bars redraw themselves only on a terminal; in a log they print a line now and then.
        return self.streams[0].isatty()


@contextmanager
def script_log(log: str | Path) -> Iterator[None]:
    """Work in one thread, copy standard error to `log`, and end with a short message where the input is at fault.

    A `DataError` (and an operating-system error such as a full disc) is the user's to mend: one message goes to
    standard error, the full traceback to the log only, and the exit status is 1. Any other error is ours and keeps its
    traceback.
    """
    # Every rule asks for one thread. NumPy's matrix library would start one per core, beside the other jobs' own, and
    # sums can change with their number.
    threadpool_limits(1)
    terminal = sys.stderr
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        stream = Path(log).open("w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        _end(error, terminal)
    sys.stderr = _Tee(terminal, stream)
    try:
        yield
    except (DataError, OSError) as error:
        # The disc that is full may be the log's.
        with suppress(OSError):
            traceback.print_exc(file=stream)
            print(f"error: {for_terminal(error, LONGEST_MESSAGE)}", file=stream, flush=True)
        _end(error, terminal)
    except BaseException:
        with suppress(OSError):
            traceback.print_exc(file=stream)
        raise
    finally:
        sys.stderr = terminal
        with suppress(OSError):
            stream.close()


def _end(error: Exception, terminal: TextIO) -> NoReturn:
    print(f"error: {for_terminal(error, LONGEST_MESSAGE)}", file=terminal, flush=True)
    # Not sys.exit: Snakemake runs scripts through exec, and a SystemExit would print its own traceback.
    os._exit(1)
