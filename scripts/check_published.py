"""Compare this run with the published one."""

from aggregated_posterior.evidence.published import page, verify
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import write_text


def check_published(own: str, published: str, text: str) -> None:
    """Write which files agree, how nearly, and what differs by how much."""
    write_text(text, page(verify(own, published)))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        check_published(
            own=snakemake.params.own,
            published=snakemake.params.published,
            text=snakemake.output.text,
        )
