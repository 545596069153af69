"""Draw the bracket and the certified lower bounds of KL(Q‖N(0, I))."""

from aggregated_posterior.figures import divergence as figures_divergence
from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_divergence(divergence: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"divergence": read_table(divergence)}
    figure = figures_divergence.divergence(**tables, style=style)
    save_figure(figure, describe("divergence", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_divergence(
            divergence=snakemake.input.divergence,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
