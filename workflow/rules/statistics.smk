# Exact statistics of Q(z): only arrays from here on.
#   needs  posteriors.safetensors
#   makes  moments.csv, marginals.csv, marginal_curves.csv, divergence.json, and for two dimensions a map
POSTERIORS = f"{MODEL}/posteriors.safetensors"
STATISTICS = config["statistics"]


rule compute_statistics:
    input:
        posteriors=POSTERIORS,
    output:
        moments=f"{MODEL}/moments.csv",
        marginals=f"{MODEL}/marginals.csv",
        curves=f"{MODEL}/marginal_curves.csv",
        divergence=f"{MODEL}/divergence.json",
    log:
        "logs/{experiment}/compute_statistics/{dataset}_{architecture}_latent_{latent_dim}_kl_{kl_weight}_seed_{seed}.log",
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        **keyed("compute_statistics"),
        settings={
            "active_threshold": STATISTICS["active_threshold"],
            "draws": STATISTICS["draws"],
            "points": STATISTICS["divergence_points"],
            "gmm_components": STATISTICS["divergence_components"],
            "fit_points": STATISTICS["divergence_fit_points"],
            "seed": 0,
        },
    script:
        "../../scripts/compute_statistics.py"


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
