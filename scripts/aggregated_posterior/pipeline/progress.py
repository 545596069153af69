"""How far a job is, in whole lines that say which model: jobs run side by side and share one terminal and one log."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..text import duration, for_terminal

# Where the files of a model and of a judge lie (MODEL in workflow/rules/common.smk, rule train_judge).
PLACES = (
    re.compile(
        r".*/models/(?P<dataset>[^/]+)/(?P<architecture>[^/]+)"
        r"/latent_(?P<latent_dim>[^/]+)/kl_(?P<kl_weight>[^/]+)/seed_(?P<seed>[^/]+)/[^/]+"
    ),
    re.compile(r".*/judges/(?P<dataset>[^/]+)/judge_(?P<seed>[^/]+)\.safetensors"),
)
WORDS = {
    "dataset": "{}",
    "architecture": "{}",
    "latent_dim": "d={}",
    "kl_weight": "β={}",
    "seed": "seed {}",
}
# Seconds between two lines of one job.
PAUSE = 10.0


def job_label(rule: str, place: Mapping[str, str]) -> str:
    """A job in a watcher's words, as `train_vae mnist dense d=16 β=1 seed 12`.

    Args:
        rule: The rule's name.
        place: The rule's wildcards; those that name no model are left out.
    """
    words = [form.format(place[key]) for key, form in WORDS.items() if key in place]
    return for_terminal(" ".join([rule, *words]))


def label_of_file(rule: str, path: str | Path) -> str:
    """`job_label` of the job that makes or reads a model's or judge's file; the rule's name alone for other files."""
    found = (place.fullmatch(Path(path).as_posix()) for place in PLACES)
    return job_label(rule, next((match.groupdict() for match in found if match), {}))


class Progress:
    """Prints a line to standard error now and then: `train_vae mnist dense d=16 β=1 seed 12 · epoch 18/30 · 43 s left`.

    The time left is by the pace since the line before, so that the steps which a resumed training skips do not count.
    A short job prints nothing.

    Args:
        label: Which job it is.
        unit: What a step is called.
        clock: Seconds from anywhere; for tests.
    """

    def __init__(self, label: str, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.label = label
        self.unit = unit
        self.clock = clock
        self.since = clock()
        self.done = 0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` steps are done, with a few words of `note`, unless a line was printed just now."""
        now = self.clock()
        if now - self.since < PAUSE or not self.done < done < total:
            return
        left = (now - self.since) / (done - self.done) * (total - done)
        parts = [self.label, f"{self.unit} {done}/{total}", *([note] if note else []), f"{duration(left)} left"]
        # One write, line end included: whatever runs beside writes before or after it.
        sys.stderr.write(f"{time.strftime('%H:%M:%S')}         {' · '.join(parts)}\n")
        sys.stderr.flush()
        self.since, self.done = now, done
