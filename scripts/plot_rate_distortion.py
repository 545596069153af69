"""Draw rate against distortion at the end of training."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.figures.training import rate_distortion
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table, write_text


def plot_rate_distortion(training: str, svg: str, pdf: str, png: str, finding: str | None, style: dict) -> None:
    """Write the figure in three formats, and its finding in words where `finding` names a file."""
    tables = {"training": read_table(training)}
    figure = rate_distortion(tables["training"], style)
    save_figure(figure, svg=svg, pdf=pdf, png=png, style=style)
    if finding is not None:
        write_text(finding, describe("rate_distortion", tables, style))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_rate_distortion(
            training=snakemake.input.training,
            svg=snakemake.output.svg,
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
            finding=snakemake.output.get("finding"),
            style=snakemake.params.style,
        )
