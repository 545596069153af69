"""What a watcher of a run sees on the terminal."""

import logging
import re
import sys
from collections.abc import Iterable

import pytest
from snakemake.logging import ColorizingTextHandler, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from .conftest import ROOT, TINY

sys.path.insert(0, str(ROOT / "workflow"))
from watching import Watched, log_lines, verdict_lines

PLACE = {"dataset": "mnist", "architecture": "dense", "latent_dim": "16", "kl_weight": "1", "seed": "12"}


def clock(line: str) -> bool:
    return re.match(r"\d\d:\d\d:\d\d ", line) is not None


class Run:
    """Snakemake's messages, as they would come at these seconds."""

    def __init__(self, stats: dict[str, int]) -> None:
        handler = ColorizingTextHandler(formatter=DefaultFormatter())
        self.watched = Watched(handler)
        self.say(0, LogEvent.RUN_INFO, stats={**stats, "total": sum(stats.values())})

    def say(self, second: float, event: LogEvent | None, message: str = "", **extra) -> str:
        record = logging.makeLogRecord({"msg": message, "levelno": logging.INFO, "event": event, **extra})
        record.created = 1e9 + second
        return self.watched.format(record)

    def start(self, second: float, job: int, rule: str) -> str:
        return self.say(second, LogEvent.JOB_INFO, jobid=job, rule_name=rule, wildcards=PLACE)

    def finish(self, second: float, job: int) -> str:
        first = self.say(second, LogEvent.JOB_FINISHED, "Finished jobid", job_id=job)
        return first + self.say(second, LogEvent.PROGRESS, done=1, total=10)


def test_a_job_is_one_line_at_its_start_and_one_at_its_end():
    run = Run({"train_vae": 4, "all": 1})
    assert run.start(0, 1, "train_vae")[9:] == "start   train_vae mnist dense d=16 β=1 seed 12"
    assert run.say(0, LogEvent.JOB_STARTED, "Execute 1 jobs...") == ""
    # One of four took 50 s, and three are left.
    assert (
        run.finish(50, 1)[9:]
        == "done    train_vae mnist dense d=16 β=1 seed 12 · 50 s · 1 of 4 (25%) · about 2 min left"
    )


def test_a_group_that_travelled_together_ends_in_a_line_for_each_job():
    run = Run({"compute_statistics": 2, "measure_latent_map": 2})
    run.start(0, 1, "compute_statistics")
    run.start(0, 2, "measure_latent_map")
    run.say(9, LogEvent.JOB_FINISHED, job_id=1)
    lines = run.finish(9, 2).splitlines()
    assert [line[17:].split(" · ")[:2] for line in lines] == [
        ["compute_statistics mnist dense d=16 β=1 seed 12", "9 s"],
        ["measure_latent_map mnist dense d=16 β=1 seed 12", "9 s"],
    ]
    assert lines[1].endswith("2 of 4 (50%) · about 9 s left")


def test_the_time_left_counts_what_runs_beside_and_how_long_each_rule_takes():
    run = Run({"train_vae": 4, "compute_statistics": 4})
    run.start(0, 1, "train_vae")
    run.start(0, 2, "train_vae")
    run.finish(60, 1)
    # Work: two more trainings and four steps of unknown time at 60 s each; the second training is due now. Two at once.
    assert run.watched.time_left() == pytest.approx((2 * 60 + 4 * 60) / 2)
    run.finish(60, 2)
    run.start(60, 3, "compute_statistics")
    run.start(60, 4, "train_vae")
    run.finish(62, 3)
    # Two trainings, one of which has run for 2 s, and three steps of 2 s; (60 + 60 + 2 + 2) s of work in 62 s.
    assert run.watched.time_left() == pytest.approx((2 * 60 - 2 + 3 * 2) / 2)


def test_a_target_that_only_waits_is_not_announced():
    run = Run({"train_vae": 1, "everything": 1})
    run.start(0, 1, "train_vae")
    assert run.finish(1, 1).endswith("1 s · 1 of 1 (100%)")
    assert run.start(1, 0, "everything") == ""
    assert run.finish(1, 0) == ""


def test_what_a_user_must_know_is_never_left_out():
    run = Run({"train_vae": 1})
    assert run.say(0, None, "Taken from the cache: x") == "Taken from the cache: x"
    assert run.say(0, None, "Select jobs to execute...") == ""
    assert run.say(0, None, "host: x is unknown", levelno=logging.ERROR) == "host: x is unknown"


def test_a_log_is_shown_whole_unless_it_ends_with_what_is_to_be_mended(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("Traceback\n  line\nZeroDivisionError: \x1b[2Jno\n")
    assert log_lines([str(log)]) == ["  | Traceback", "  |   line", "  | ZeroDivisionError: \\x1b[2Jno"]
    log.write_text("Traceback\n  line\nerror: data.npz: is empty\n")
    assert log_lines([str(log)]) == ["  | error: data.npz: is empty"]
    log.write_text("Traceback\n  line\nKeyboardInterrupt\n")
    assert log_lines([str(log)]) == ["  | KeyboardInterrupt"]
    assert log_lines([str(tmp_path / "none.log")]) == ["  | cannot be read: No such file or directory"]


def test_verdicts_fit_eighty_columns_whole():
    size = "at most 1.37 on training rows (digits dense, d = 2, β = 0.5), " * 3
    lines = verdict_lines(
        [{"id": "C4β", "verdict": "inconclusive", "size": size}, {"id": "C7", "verdict": "-", "size": ""}]
    )
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == "claim verdict what was found".split()
    assert lines[-1] == "C7     -"
    assert " ".join(line[21:] for line in lines[2:-1]).split() == size.split()


def test_a_dry_run_keeps_snakemakes_own_words():
    plain = DefaultFormatter()
    handler = ColorizingTextHandler(formatter=plain)
    handler.setFormatter(Watched(handler, dry_run=lambda: True))
    stats = logging.makeLogRecord({"msg": "Job stats:\njob  count", "event": LogEvent.RUN_INFO, "stats": {"total": 1}})
    assert handler.format(stats) == "Job stats:\njob  count"
    assert handler.formatter is plain


def lines_of(said: str, word: str) -> list[str]:
    return [line[17:] for line in said.splitlines() if clock(line) and line[9:].startswith(word)]


def labels(lines: Iterable[str]) -> list[str]:
    return sorted(line.split(" · ")[0] for line in lines)


def test_a_run_says_each_job_once_and_ends_with_the_verdicts(finished):
    started, done = lines_of(finished.said, "start"), lines_of(finished.said, "done")
    assert labels(started) == labels(done)
    assert len(set(done)) == len(done) > 30
    assert labels(done).count("train_vae digits dense d=2 β=0.5 seed 0") == 1
    assert done[-1].endswith(f"{len(done)} of {len(done)} (100%)")
    assert re.search(r"^C8 +inconclusive +largest error", finished.said, flags=re.M)
    for place in ("index.html", "claims.md"):
        assert re.search(rf" results/tiny/{place}$", finished.said, flags=re.M)
    # A line when a job starts, one when it ends and one for its place in the cache; verdicts; a frame.
    assert len(finished.said.splitlines()) <= 3 * len(done) + 60


def test_a_failure_is_shown_whole_beside_its_model_and_again_at_the_end(fresh):
    fresh.edit("scripts/prepare_control_posteriors.py", "snakemake.log[0]):\n", "snakemake.log[0]):\n        1 / 0\n")
    target = "results/tiny/models/control_mixture/made/latent_4/kl_1/seed_0/posteriors.safetensors"
    done = fresh.run(target, "--cores", "1", "--configfile", TINY, check=False)
    said = done.stdout + done.stderr
    label = "prepare_control_posteriors control_mixture made d=4 β=1 seed 0"
    assert lines_of(said, "failed") == [label]
    block = done.stderr.split("failed  ")[1]
    assert "  | Traceback" in block and "  | ZeroDivisionError: division by zero" in block
    assert re.search(rf"^  {label}: logs/tiny/prepare_control_posteriors/.*\.log$", done.stdout, flags=re.M)
    assert "returned non-zero exit status" not in said
