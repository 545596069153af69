"""Draw the bracket and the certified lower bounds of KL(Q‖N(0, I))."""

from aggregated_posterior.figures import divergence as figures_divergence
from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table, write_text


def plot_divergence(divergence: str, svg: str, pdf: str, png: str, finding: str | None, style: dict) -> None:
    """Write the figure in three formats, and its finding in words where `finding` names a file."""
    tables = {"divergence": read_table(divergence)}
    figure = figures_divergence.divergence(tables["divergence"], style)
    save_figure(figure, svg=svg, pdf=pdf, png=png, style=style)
    if finding is not None:
        write_text(finding, describe("divergence", tables, style))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_divergence(
            divergence=snakemake.input.divergence,
            svg=snakemake.output.svg,
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
            finding=snakemake.output.get("finding"),
            style=snakemake.params.style,
        )
