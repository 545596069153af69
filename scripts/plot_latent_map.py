"""Draw two-dimensional latent spaces: posteriors, exact contours of Q(z), the prior."""

from aggregated_posterior.figures.density import latent_map
from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_latent_map(latent_ellipses: str, latent_density: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"latent_ellipses": read_table(latent_ellipses), "latent_density": read_table(latent_density)}
    figure = latent_map(**tables, style=style)
    save_figure(figure, describe("latent_map", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_latent_map(
            latent_ellipses=snakemake.input.latent_ellipses,
            latent_density=snakemake.input.latent_density,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
