"""Draw which cause takes how much of the prior's Fréchet distance."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.samplers import sampler_split
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_sampler_split(samplers: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"samplers": read_table(samplers)}
    figure = sampler_split(**tables, style=style)
    save_figure(figure, describe("sampler_split", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_sampler_split(
            samplers=snakemake.input.samplers,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
