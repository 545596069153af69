"""Draw the variance law, raw and canonical, and along training."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.figures.training import variance_law
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_variance_law(moments: str, training: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"moments": read_table(moments), "training": read_table(training)}
    figure = variance_law(**tables, style=style)
    save_figure(figure, describe("variance_law", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_variance_law(
            moments=snakemake.input.moments,
            training=snakemake.input.training,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
