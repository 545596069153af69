"""Draw images decoded from each rung of the ladder of samplers, side by side."""

from aggregated_posterior.figures.findings import sampler_plates as describe_plates
from aggregated_posterior.figures.samplers import sampler_plates
from aggregated_posterior.figures.style import complete_style, save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_arrays, read_table


def plot_sampler_plates(plates: list[str], moments: str, cells: list[dict], files: dict[str, str], style: dict) -> None:
    """Write the figure of all plates (same order as `cells`) in three formats, and its finding in words."""
    figure = sampler_plates([read_arrays(path)[0] for path in plates], cells, read_table(moments), style)
    save_figure(figure, describe_plates(cells, complete_style(style)) + "\n", files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_sampler_plates(
            plates=snakemake.input.get("plates", []),
            moments=snakemake.input.moments,
            cells=snakemake.params.cells,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
