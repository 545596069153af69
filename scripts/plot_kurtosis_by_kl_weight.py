"""Draw the kurtosis of Q(z) against the KL weight, with the linear model's theory line on the controls."""

from aggregated_posterior.figures.findings import describe
from aggregated_posterior.figures.kurtosis import kurtosis_by_kl_weight
from aggregated_posterior.figures.style import save_figure
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table


def plot_kurtosis_by_kl_weight(moments: str, controls: str, files: dict[str, str], style: dict) -> None:
    """Write the figure in three formats, and its finding in words."""
    tables = {"moments": read_table(moments), "controls": read_table(controls)}
    figure = kurtosis_by_kl_weight(**tables, style=style)
    save_figure(figure, describe("kurtosis_by_kl_weight", tables, style), files, style)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        plot_kurtosis_by_kl_weight(
            moments=snakemake.input.moments,
            controls=snakemake.input.controls,
            files=dict(snakemake.output),
            style=snakemake.params.style,
        )
