"""Draw rate against distortion at the end of training."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.figures.training import rate_distortion
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_rate_distortion(training: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"training": read_table(training)}
    figure = rate_distortion(**tables, style=style)
    save_figure(figure, describe("rate_distortion", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_rate_distortion(
            training=snakemake.input.training,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
