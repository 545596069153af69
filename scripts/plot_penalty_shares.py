"""Draw the shares of scale, shape and dependence in the prior's removable penalty."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.samplers import penalty_shares
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table, write_text


def plot_penalty_shares(samplers: str, svg: str, pdf: str, png: str, finding: str | None, style: dict) -> None:
    """Write the figure in three formats, and its finding in words where `finding` names a file."""
    tables = {"samplers": read_table(samplers)}
    figure = penalty_shares(tables["samplers"], style)
    save_figure(figure, svg=svg, pdf=pdf, png=png, style=style)
    if finding is not None:
        write_text(finding, describe("penalty_shares", tables, style))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_penalty_shares(
            samplers=snakemake.input.samplers,
            svg=snakemake.output.svg,
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
            finding=snakemake.output.get("finding"),
            style=snakemake.params.style,
        )
