"""What a watcher of a run sees: a line when a job starts, one when it ends, failures whole, and the verdicts at last.

Snakemake's own lines (five for each job, and the reasons for it) are in its log, `.snakemake/log/`, as ever; only the
terminal is told less. A dry run, and a log handler of the user's (`--logger`), are left as they are.
"""

import logging
import re
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from snakemake.logging import ColorizingTextHandler, DefaultFormatter, logger
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

from aggregated_posterior.pipeline.progress import duration, job_label
from aggregated_posterior.storage import LONGEST_MESSAGE, DataError, read_json
from aggregated_posterior.text import for_terminal, prepare_streams

WIDTH = 80
# These only wait for others.
TARGETS = {"all", "everything"}
# Said at every start, or with every job, of which nothing follows for who watches.
CHATTER = (
    "Assuming unrestricted shared filesystem usage",
    "host: ",
    "Building DAG of jobs",
    "Using shell: ",
    "Conda environments: ignored",
    "Singularity containers: ignored",
    "Select jobs to execute",
)
# How a script was called that failed, which says nothing of why.
JOB_COMMAND = re.compile(r"Command '.*/\.snakemake/scripts/.*' (returned non-zero exit status|died with)", re.DOTALL)


class Watched(DefaultFormatter):
    """Snakemake's messages in one line each, with the model's name and the time left.

    Args:
        handler: Whose messages they are.
        dry_run: Whether nothing is run. Asked with every message, since Snakemake knows it after the first ones.
    """

    def __init__(self, handler: ColorizingTextHandler, dry_run: Callable[[], bool] = lambda: False) -> None:
        super().__init__(handler.formatter.quiet, show_failed_logs=True)
        self.handler = handler
        self.plain = handler.formatter
        self.dry_run = dry_run
        self.planned: Counter[str] = Counter()
        self.started: dict[int, tuple[str, str, float]] = {}
        # Number of finished jobs and seconds that they took, by rule.
        self.finished: Counter[str] = Counter()
        self.took: Counter[str] = Counter()
        self.begin = time.time()
        self.now = self.begin
        # Jobs that ended since the last count: one, or a group that travelled to a cluster together.
        self.ended: list[str] = []
        # Label of a failed job → its log.
        self.failed: dict[str, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        if self.dry_run():
            self.handler.setFormatter(self.plain)
            return self.plain.format(record)
        # Snakemake would set off each start by an empty line, unless the message before was a start too.
        self.handler.last_msg_was_job_info = True
        self.now = record.created
        event = getattr(record, "event", None)
        if event in (LogEvent.JOB_STARTED, LogEvent.RESOURCES_INFO):
            return ""
        if event is None and record.levelno == logging.INFO and str(record.msg).startswith(CHATTER):
            return ""
        if event == LogEvent.ERROR and JOB_COMMAND.search(str(record.msg)) and Quietness.RULES not in self.quiet:
            return ""
        return super().format(record)

    def line(self, word: str, text: str) -> str:
        return f"{time.strftime('%H:%M:%S', time.localtime(self.now))} {word:<7} {text}"

    def format_workflow_started(self, msg: dict) -> str:
        return ""

    def format_run_info(self, msg: dict) -> str:
        self.planned = Counter({rule: n for rule, n in msg["stats"].items() if rule not in {"total", *TARGETS}})
        self.begin = self.now
        counts = [f"{n} {rule}" for rule, n in self.planned.most_common() if n > 1]
        singles = sum(n == 1 for n in self.planned.values())
        counts += [f"{singles} of other rules"] if counts and singles else []
        of_which = f": {', '.join(counts)}" if counts else ""
        return textwrap.fill(f"{self.planned.total()} jobs{of_which}", WIDTH, break_on_hyphens=False)

    def format_job_info(self, msg: dict) -> str:
        rule = msg["rule_name"]
        label = job_label(rule, msg["wildcards"])
        self.started[msg["jobid"]] = (rule, label, self.now)
        return "" if rule in TARGETS else self.line("start", label)

    def format_job_finished(self, msg: dict) -> str:
        # Snakemake's count follows at once; one line is made of both.
        rule, label, start = self.started.pop(msg["job_id"], (None, msg["msg"], self.now))
        self.failed.pop(label, None)
        if rule in TARGETS:
            return ""
        self.finished[rule] += 1
        self.took[rule] += self.now - start
        self.ended.append(self.line("done", f"{label} · {duration(self.now - start)}"))
        return ""

    def format_progress(self, msg: dict) -> str:
        if not self.ended:
            return ""
        lines, self.ended = self.ended, []
        done, total = self.finished.total(), self.planned.total() or msg["total"]
        parts = [lines.pop(), f"{done} of {total} ({int(100 * done / total)}%)"]
        left = self.time_left()
        if left >= 1:
            parts.append(f"about {duration(left)} left")
        return "\n".join([*lines, " · ".join(parts)])

    def format_job_error(self, msg: dict) -> str:
        _, label, _ = self.started.pop(msg["jobid"], (None, msg["rule_name"], self.now))
        logs = [str(path) for path in msg["log"]]
        self.failed[label] = ", ".join(logs)
        lines = [self.line("failed", label), f"  log: {', '.join(logs)}"]
        if msg["shellcmd"]:
            lines.append(f"  command: {for_terminal(msg['shellcmd'], LONGEST_MESSAGE)}")
        lines += [f"  {key}: {value}" for key, value in msg["aux"].items()]
        # Whole, though a job of this machine has said it before: there between other jobs' lines, here with its model.
        return "\n".join([*lines, *log_lines(logs)])

    def format_group_error(self, msg: dict) -> str:
        for info in msg["job_error_info"]:
            _, label, _ = self.started.pop(info["jobid"], (None, info["rule_name"], self.now))
            self.failed[label] = ", ".join(map(str, info["log"]))
        return super().format_group_error(msg)

    def time_left(self) -> float:
        """Seconds until all jobs are done, from the mean time of each rule's jobs and how many ran at once so far.

        Rules of which no job has ended count as the mean job. 0 where nothing is left.
        """
        mean = {rule: self.took[rule] / n for rule, n in self.finished.items()}
        overall = self.took.total() / self.finished.total()
        running = [(rule, self.now - start) for rule, _, start in self.started.values()]
        work = sum(n * mean.get(rule, overall) for rule, n in (self.planned - self.finished).items())
        work -= sum(min(past, mean.get(rule, overall)) for rule, past in running)
        at_once = (self.took.total() + sum(past for _, past in running)) / max(self.now - self.begin, 1e-9)
        return work / at_once if at_once > 0 else 0.0

    def failures(self) -> list[str]:
        """What failed and where its log is, for the end of a run."""
        return [f"  {label}: {log}" for label, log in self.failed.items()]


def log_lines(paths: Iterable[str]) -> list[str]:
    """The logs of a failed job; of one that ends with `error: …` (the input's fault) or Ctrl-C, that line alone."""
    lines = []
    for path in paths:
        try:
            said = Path(path).read_text(encoding="utf-8", errors="backslashreplace").splitlines()
        except OSError as error:
            said = [f"cannot be read: {error.strerror}"]
        if said and said[-1].startswith(("error: ", "KeyboardInterrupt")):
            said = said[-1:]
        lines += [f"  | {for_terminal(line, LONGEST_MESSAGE)}" for line in said]
    return lines


def watch(workflow) -> Watched | None:
    """Make the terminal's messages `Watched`; None where it is not the terminal of a run."""
    if not workflow.is_main_process or workflow.output_settings.verbose:
        return None
    for handler in logger.handlers:
        if isinstance(handler, ColorizingTextHandler) and type(handler.formatter) is DefaultFormatter:
            handler.setFormatter(Watched(handler, lambda: workflow.dryrun))
            return handler.formatter
    return None


def verdict_lines(claims: Iterable[dict], width: int = WIDTH) -> list[str]:
    """The verdicts as a table of `width` columns: claim, verdict, and what was found in words."""
    rows = [("claim", "verdict", "what was found")]
    rows += [tuple(for_terminal(claim[key]) for key in ("id", "verdict", "size")) for claim in claims]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = []
    for claim, verdict, size in rows:
        begin = f"{claim:<{first}}  {verdict:<{second}}  "
        wrapped = textwrap.wrap(size, width - len(begin), break_on_hyphens=False) or [""]
        lines += [f"{begin}{wrapped[0]}".rstrip(), *(" " * len(begin) + line for line in wrapped[1:])]
    lines.insert(1, "─" * width)
    return lines


def say_verdicts(workflow, results: str) -> None:
    """Print the verdicts of a run that reached them, and where to look next. To be called when all went well."""
    prepare_streams()
    made = {job.rule.name for job in workflow.dag.jobs}
    if "check_claims" not in made:
        print("Done.", flush=True)
        return
    try:
        print("", *verdict_lines(read_json(f"{results}/claims.json")), "", sep="\n")
    except DataError as error:
        # A finished run does not fail for its last words.
        print(for_terminal(error, LONGEST_MESSAGE))
    places = {
        "the page, for a browser": f"{results}/index.html",
        "verdicts with thresholds": f"{results}/claims.md",
        "figures": f"{results}/figures/",
    }
    for what, path in places.items():
        if Path(path).exists():
            print(f"{what + ':':<26}{path}")


def say_failures(watched: Watched | None) -> None:
    """Print which jobs failed. To be called when a run did."""
    prepare_streams()
    if watched and watched.failed:
        print("Failed (finished jobs stay; run the same command again when mended):", *watched.failures(), sep="\n")
