# One tidy table per kind of observation, and the verdicts drawn from them.
TABLES = "results/{experiment}/tables"


rule collect_moments:
    input:
        models=model_files("moments.csv"),
    output:
        table=f"{TABLES}/moments.csv",
    log:
        "logs/{experiment}/collect_moments.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        cells=keys_of(CELLS),
        code=code("collect_moments"),
        cache_key=cache_key,
    script:
        "../../scripts/collect_moments.py"


rule collect_training:
    input:
        models=model_files("history.csv", TRAINED),
    output:
        table=f"{TABLES}/training.csv",
    log:
        "logs/{experiment}/collect_training.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        cells=keys_of(TRAINED),
        code=code("collect_training"),
        cache_key=cache_key,
    script:
        "../../scripts/collect_training.py"


rule collect_marginals:
    input:
        models=model_files("marginals.csv"),
        curves=model_files("marginal_curves.csv"),
    output:
        table=f"{TABLES}/marginals.csv",
        curves=f"{TABLES}/marginal_curves.csv",
    log:
        "logs/{experiment}/collect_marginals.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        cells=keys_of(CELLS),
        code=code("collect_marginals"),
        cache_key=cache_key,
    script:
        "../../scripts/collect_marginals.py"


rule collect_divergence:
    input:
        models=model_files("divergence.json"),
    output:
        table=f"{TABLES}/divergence.csv",
    log:
        "logs/{experiment}/collect_divergence.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        cells=keys_of(CELLS),
        code=code("collect_divergence"),
        cache_key=cache_key,
    script:
        "../../scripts/collect_divergence.py"


rule collect_samplers:
    input:
        models=model_files("samplers.csv", JUDGED_CELLS),
    output:
        table=f"{TABLES}/samplers.csv",
    log:
        "logs/{experiment}/collect_samplers.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        cells=keys_of(JUDGED_CELLS),
        code=code("collect_samplers"),
        cache_key=cache_key,
    script:
        "../../scripts/collect_samplers.py"


rule collect_latent_maps:
    input:
        density=model_files("latent_density.csv", MAP_CELLS),
        ellipses=model_files("latent_ellipses.csv", MAP_CELLS),
    output:
        density=f"{TABLES}/latent_density.csv",
        ellipses=f"{TABLES}/latent_ellipses.csv",
    log:
        "logs/{experiment}/collect_latent_maps.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        cells=keys_of(MAP_CELLS),
        code=code("collect_latent_maps"),
        cache_key=cache_key,
    script:
        "../../scripts/collect_latent_maps.py"


rule collect_controls:
    input:
        trained=model_files("moments.csv", CONTROL_CELLS),
        data=[
            f"results/{EXPERIMENT}/data/{cell['dataset']}.safetensors"
            for cell in CONTROL_CELLS
        ],
        made=model_files("moments.csv", MADE_CELLS),
    output:
        table=f"{TABLES}/controls.csv",
    log:
        "logs/{experiment}/collect_controls.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        models={
            "trained_keys": keys_of(CONTROL_CELLS),
            "made_keys": keys_of(MADE_CELLS),
            "decoder_variances": [
                cell["training"]["decoder_variance"] for cell in CONTROL_CELLS
            ],
        },
        code=code("collect_controls"),
        cache_key=cache_key,
    script:
        "../../scripts/collect_controls.py"


rule check_claims:
    input:
        moments=rules.collect_moments.output.table,
        divergence=rules.collect_divergence.output.table,
        samplers=rules.collect_samplers.output.table,
        controls=rules.collect_controls.output.table,
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
        judges=f"{TABLES}/judges.csv",
    log:
        "logs/{experiment}/check_claims.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        ledger=CLAIMS,
        code=code("check_claims"),
        cache_key=cache_key,
    script:
        "../../scripts/check_claims.py"
