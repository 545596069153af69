# From many models to one tidy table per kind of observation, and to the verdicts drawn from them.
#   needs  what measuring, training and scoring left beside each model, the controls' data, config/claims.yaml
#   makes  tables/*.csv, claims.json, claims.md, claims.html
# Table → the file beside each model that holds its rows, and the models that have one.
COLLECTED = {
    "moments": ("moments.csv", CELLS),
    "training": ("history.csv", TRAINED),
    "losses": ("losses.csv", TRAINED),
    "marginals": ("marginals.csv", CELLS),
    "marginal_curves": ("marginal_curves.csv", CELLS),
    "divergence": ("divergence.json", CELLS),
    "samplers": ("samplers.csv", JUDGED_CELLS),
    "latent_density": ("latent_density.csv", MAP_CELLS),
    "latent_ellipses": ("latent_ellipses.csv", MAP_CELLS),
}


rule collect_tables:
    input:
        **{
            table: model_files(name, cells)
            for table, (name, cells) in COLLECTED.items()
        },
    output:
        **{table: table_path(table) for table in COLLECTED},
    log:
        "logs/{experiment}/collect_tables.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **keyed("collect_tables"),
        cells={table: keys_of(cells) for table, (_, cells) in COLLECTED.items()},
    script:
        "../../scripts/collect_tables.py"


rule collect_controls:
    input:
        trained=model_files("moments.csv", CONTROL_CELLS),
        data=[
            f"results/{EXPERIMENT}/data/{cell['dataset']}.safetensors"
            for cell in CONTROL_CELLS
        ],
        made=model_files("moments.csv", MADE_CELLS),
    output:
        table=table_path("controls"),
    log:
        "logs/{experiment}/collect_controls.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **keyed("collect_controls"),
        models={
            "trained_keys": keys_of(CONTROL_CELLS),
            "made_keys": keys_of(MADE_CELLS),
            "decoder_variances": [
                cell["training"]["decoder_variance"] for cell in CONTROL_CELLS
            ],
        },
    script:
        "../../scripts/collect_controls.py"


rule check_claims:
    input:
        **tables("moments", "divergence", "samplers", "controls", "losses"),
    output:
        claims="results/{experiment}/claims.json",
        text=report(
            "results/{experiment}/claims.md",
            caption="../report/check_claims.rst",
            category="Claims",
            labels={"table": "verdicts", "format": "Markdown"},
        ),
        page=report(
            "results/{experiment}/claims.html",
            caption="../report/check_claims.rst",
            category="Claims",
            labels={"table": "verdicts", "format": "HTML"},
        ),
        # The verdicts as the captions of figures quote them.
        quoted="results/{experiment}/claims.rst",
        judges=table_path("judges"),
    log:
        "logs/{experiment}/check_claims.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **keyed("check_claims"),
        ledger=CLAIMS,
    script:
        "../../scripts/check_claims.py"
