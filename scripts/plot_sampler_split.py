"""Draw which cause takes how much of the prior's Fréchet distance."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.samplers import sampler_split
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table, write_text


def plot_sampler_split(samplers: str, svg: str, pdf: str, png: str, finding: str | None, style: dict) -> None:
    """Write the figure in three formats, and its finding in words where `finding` names a file."""
    tables = {"samplers": read_table(samplers)}
    figure = sampler_split(tables["samplers"], style)
    save_figure(figure, svg=svg, pdf=pdf, png=png, style=style)
    if finding is not None:
        write_text(finding, describe("sampler_split", tables, style))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_sampler_split(
            samplers=snakemake.input.samplers,
            svg=snakemake.output.svg,
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
            finding=snakemake.output.get("finding"),
            style=snakemake.params.style,
        )
