"""Draw kurtosis against the variance of the means, with the bound and inactive dimensions told apart."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.kurtosis import kurtosis_by_activity
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table, write_text


def plot_kurtosis_by_activity(moments: str, svg: str, pdf: str, png: str, finding: str | None, style: dict) -> None:
    """Write the figure in three formats, and its finding in words where `finding` names a file."""
    tables = {"moments": read_table(moments)}
    figure = kurtosis_by_activity(tables["moments"], style)
    save_figure(figure, svg=svg, pdf=pdf, png=png, style=style)
    if finding is not None:
        write_text(finding, describe("kurtosis_by_activity", tables, style))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_kurtosis_by_activity(
            moments=snakemake.input.moments,
            svg=snakemake.output.svg,
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
            finding=snakemake.output.get("finding"),
            style=snakemake.params.style,
        )
