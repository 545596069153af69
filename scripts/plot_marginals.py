"""Draw the marginals of Q(z) and their quantiles beside N(0, 1)."""

from aggregated_posterior.figures import density
from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_marginals(marginal_curves: str, marginals: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"marginal_curves": read_table(marginal_curves), "marginals": read_table(marginals)}
    figure = density.marginals(**tables, style=style)
    save_figure(figure, describe("marginals", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_marginals(
            marginal_curves=snakemake.input.marginal_curves,
            marginals=snakemake.input.marginals,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
