"""Draw the shares of scale, shape and dependence in the prior's removable penalty."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.samplers import penalty_shares
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_penalty_shares(samplers: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"samplers": read_table(samplers)}
    figure = penalty_shares(**tables, style=style)
    save_figure(figure, describe("penalty_shares", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_penalty_shares(
            samplers=snakemake.input.samplers,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
