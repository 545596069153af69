# Does this run agree with the published one? Asked for by name (`snakemake verify`), never by `all`.
#   needs  results/published/{experiment}/*, and all that the experiment makes
#   makes  verification.md
PUBLISHED = f"results/published/{EXPERIMENT}"


rule check_published:
    input:
        # The manifest is named, so that Snakemake says which experiment has not been published.
        manifest=f"{PUBLISHED}/manifest.json",
        published=sorted(
            str(path) for path in Path(PUBLISHED).rglob("*") if path.is_file()
        ),
        # The manifest names every file of the run.
        own=everything,
    output:
        text="results/{experiment}/verification.md",
    log:
        "logs/{experiment}/check_published.log",
    cache: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **keyed("check_published"),
        own=lambda w: f"results/{w.experiment}",
        published=lambda w: f"results/published/{w.experiment}",
    script:
        "../../scripts/check_published.py"


# A failing job's output is removed, so the page is one job and the exit status another.
rule verify:
    input:
        text=experiment_file("verification.md"),
    log:
        f"logs/{EXPERIMENT}/verify.log",
    conda:
        "../../environment.yml"
    shell:
        "tee {log} < {input.text} && ! grep -q '^Result: differs' {input.text}"


localrules:
    verify,
