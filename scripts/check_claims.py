"""Draw the verdicts from the tables."""

from aggregated_posterior.evidence.claims import Evidence, evaluate
from aggregated_posterior.evidence.judges import agreement
from aggregated_posterior.evidence.verdicts import markdown, page, substitutions, verdict_table
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_table, write_json, write_table, write_text

PREAMBLE = """# Verdicts of the experiment `{experiment}`

A replication of the claims in the abstract of A. Asperti, *About Generative Aspects of Variational Autoencoders*
(LOD 2019); the paper's text and tables were not available, the experimental design and every number are this
project's own. Limits are over training runs. Thresholds, with date and reason: `config/claims.yaml`; which code draws
which verdict: `docs/ledger.md`.

"""


def check_claims(
    tables: dict[str, str], claims: str, text: str, html: str, quoted: str, judges: str, ledger: dict
) -> None:
    """Write the claims as JSON, as Markdown and as one HTML table, and whether the judges agree as CSV."""
    evidence = Evidence(**{name: read_table(path) for name, path in tables.items()}, ledger=ledger)
    verdicts = evaluate(evidence)
    table = verdict_table(verdicts)
    write_json(claims, [verdict.as_dict() for verdict in verdicts])
    write_text(text, PREAMBLE.format(experiment=evidence.moments["experiment"].iloc[0]) + markdown(table))
    write_text(html, page(table))
    write_text(quoted, substitutions(verdicts))
    write_table(judges, agreement(evidence.samplers))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        check_claims(
            tables={name: snakemake.input[name] for name in snakemake.input.keys()},
            claims=snakemake.output.claims,
            text=snakemake.output.text,
            html=snakemake.output.page,
            quoted=snakemake.output.quoted,
            judges=snakemake.output.judges,
            ledger=snakemake.params.ledger,
        )
