"""Draw the verdicts from the tables."""

from aggregated_posterior.evidence.claims import Evidence, evaluate, verdict_table
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table, write_json, write_text

PREAMBLE = """# Verdicts of the experiment `{experiment}`

A replication of the claims in the abstract of A. Asperti, *About Generative Aspects of Variational Autoencoders*
(LOD 2019); the paper's text and tables were not available, the experimental design and every number are this
project's own. Intervals resample the seeds of every cell. Thresholds: `config/claims.yaml`.

"""


def check_claims(tables: dict[str, str], claims: str, text: str, page: str, ledger: dict, seed: int) -> None:
    """Write the claims as JSON, as Markdown and as one HTML table."""
    loaded = {name: read_table(path) for name, path in tables.items()}
    verdicts = evaluate(Evidence(**loaded, ledger=ledger, seed=seed))
    table = verdict_table(verdicts)
    experiment = loaded["moments"]["experiment"].iloc[0]
    write_json(claims, [verdict.as_dict() for verdict in verdicts])
    lines = ["| " + " | ".join(table.columns) + " |", "|" + " --- |" * len(table.columns)]
    # A bar inside a cell would end it.
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in table.to_numpy()]
    write_text(text, PREAMBLE.format(experiment=experiment) + "\n".join(lines) + "\n")
    style = "<style>body{font-family:sans-serif}td,th{padding:4px 8px;text-align:left;vertical-align:top}</style>"
    write_text(page, f"<!doctype html><meta charset='utf-8'>{style}{table.to_html(index=False, border=0)}\n")


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        check_claims(
            tables={name: snakemake.input[name] for name in snakemake.input.keys()},
            claims=snakemake.output.claims,
            text=snakemake.output.text,
            page=snakemake.output.page,
            ledger=snakemake.params.ledger,
            seed=snakemake.params.seed,
        )
