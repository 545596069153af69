"""Draw the three terms of every active dimension's kurtosis as stacked bars."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.kurtosis import kurtosis_terms
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_kurtosis_terms(moments: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"moments": read_table(moments)}
    figure = kurtosis_terms(**tables, style=style)
    save_figure(figure, describe("kurtosis_terms", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_kurtosis_terms(
            moments=snakemake.input.moments,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
