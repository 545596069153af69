"""Draw kurtosis against the variance of the means, with the bound and inactive dimensions told apart."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.kurtosis import kurtosis_by_activity
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_kurtosis_by_activity(moments: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"moments": read_table(moments)}
    figure = kurtosis_by_activity(**tables, style=style)
    save_figure(figure, describe("kurtosis_by_activity", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_kurtosis_by_activity(
            moments=snakemake.input.moments,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
