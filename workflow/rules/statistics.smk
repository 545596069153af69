# Exact statistics of Q(z): only arrays from here on.
#   needs  posteriors.safetensors
#   makes  moments.csv, marginals.csv, marginal_curves.csv, divergence.json, latent maps beside each model
POSTERIORS = f"{MODEL}/posteriors.safetensors"
STATISTICS = config["statistics"]


rule compute_moments:
    input:
        posteriors=POSTERIORS,
    output:
        moments=f"{MODEL}/moments.csv",
    log:
        "logs/{experiment}/compute_moments/{dataset}_{architecture}_latent_{latent_dim}_kl_{kl_weight}_seed_{seed}.log",
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **keyed("compute_moments"),
        settings={
            "active_threshold": STATISTICS["active_threshold"],
            "confidence": STATISTICS["confidence"],
            "draws": STATISTICS["draws"],
            "seed": 0,
        },
    script:
        "../../scripts/compute_moments.py"


rule measure_marginals:
    input:
        posteriors=POSTERIORS,
    output:
        marginals=f"{MODEL}/marginals.csv",
        curves=f"{MODEL}/marginal_curves.csv",
    log:
        "logs/{experiment}/measure_marginals/{dataset}_{architecture}_latent_{latent_dim}_kl_{kl_weight}_seed_{seed}.log",
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        **keyed("measure_marginals"),
        settings={"active_threshold": STATISTICS["active_threshold"]},
    script:
        "../../scripts/measure_marginals.py"


rule measure_divergence:
    input:
        posteriors=POSTERIORS,
    output:
        divergence=f"{MODEL}/divergence.json",
    log:
        "logs/{experiment}/measure_divergence/{dataset}_{architecture}_latent_{latent_dim}_kl_{kl_weight}_seed_{seed}.log",
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        **keyed("measure_divergence"),
        settings={
            "points": STATISTICS["divergence_points"],
            "gmm_components": STATISTICS["divergence_components"],
            "fit_points": STATISTICS["divergence_fit_points"],
            "active_threshold": STATISTICS["active_threshold"],
            "seed": 0,
        },
    script:
        "../../scripts/measure_divergence.py"


rule measure_latent_map:
    input:
        posteriors=POSTERIORS,
        data="results/{experiment}/data/{dataset}.safetensors",
    output:
        density=f"{MODEL}/latent_density.csv",
        ellipses=f"{MODEL}/latent_ellipses.csv",
    log:
        "logs/{experiment}/measure_latent_map/{dataset}_{architecture}_latent_{latent_dim}_kl_{kl_weight}_seed_{seed}.log",
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **keyed("measure_latent_map"),
    script:
        "../../scripts/measure_latent_map.py"
