"""Draw the marginals of Q(z) and their quantiles beside N(0, 1)."""

from aggregated_posterior.figures import density as figures_density
from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table, write_text


def plot_marginals(
    marginal_curves: str, marginals: str, svg: str, pdf: str, png: str, finding: str | None, style: dict
) -> None:
    """Write the figure in three formats, and its finding in words where `finding` names a file."""
    tables = {"marginal_curves": read_table(marginal_curves), "marginals": read_table(marginals)}
    figure = figures_density.marginals(tables["marginal_curves"], tables["marginals"], style)
    save_figure(figure, svg=svg, pdf=pdf, png=png, style=style)
    if finding is not None:
        write_text(finding, describe("marginals", tables, style))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_marginals(
            marginal_curves=snakemake.input.marginal_curves,
            marginals=snakemake.input.marginals,
            svg=snakemake.output.svg,
            pdf=snakemake.output.pdf,
            png=snakemake.output.png,
            finding=snakemake.output.get("finding"),
            style=snakemake.params.style,
        )
