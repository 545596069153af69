"""Draw the kurtosis of Q(z) against the KL weight, with the linear model's theory line on the controls."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.kurtosis import kurtosis_by_kl_weight
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table, write_text


def plot_kurtosis_by_kl_weight(
    moments: str, controls: str | None, svg: str, pdf: str, png: str, finding: str | None, style: dict
) -> None:
    """Write the figure in three formats, and its finding in words where `finding` names a file."""
    tables = {"moments": read_table(moments)}
    if controls is not None:
        tables["controls"] = read_table(controls)
    figure = kurtosis_by_kl_weight(tables["moments"], tables.get("controls"), style)
    save_figure(figure, svg=svg, pdf=pdf, png=png, style=style)
    if finding is not None:
        write_text(finding, describe("kurtosis_by_kl_weight", tables, style))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_kurtosis_by_kl_weight(
            moments=snakemake.input.moments,
            controls=snakemake.input.get("controls"),
            svg=snakemake.output.svg,
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
            finding=snakemake.output.get("finding"),
            style=snakemake.params.style,
        )
