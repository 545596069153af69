"""Collect verdicts, figures and what can be explored in one page for a browser."""

from collections.abc import Mapping
from pathlib import Path

from aggregated_posterior.figures.page import experiment_page, figure_entries, sweep_content
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_json, read_table, write_text


def collect_page(
    experiment: str, claims: str, samplers: str, moments: str, explorer: str, figures: Mapping[str, str],
    findings: Mapping[str, str], template: str, page: str,
) -> None:  # fmt: skip
    """Write the experiment's page; `figures` and `findings` are files by the figure's name."""
    page_text = experiment_page(
        experiment,
        read_json(claims),
        figure_entries({name: Path(path) for name, path in figures.items()}, {n: Path(p) for n, p in findings.items()}),
        sweep_content(read_table(samplers), read_table(moments)),
        read_json(explorer),
        template,
    )
    write_text(page, page_text)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        collect_page(
            **{name: snakemake.input[name] for name in ("claims", "samplers", "moments", "explorer", "template")},
            figures=dict(zip(snakemake.params.names, snakemake.input.figures, strict=True)),
            findings=dict(zip(snakemake.params.names, snakemake.input.findings, strict=True)),
            experiment=snakemake.params.experiment,
            page=snakemake.output.page,
        )
