"""Draw the number of active dimensions over the sweep."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.figures.training import active_dimensions
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_active_dimensions(moments: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"moments": read_table(moments)}
    figure = active_dimensions(**tables, style=style)
    save_figure(figure, describe("active_dimensions", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_active_dimensions(
            moments=snakemake.input.moments,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
