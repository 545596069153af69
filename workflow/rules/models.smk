# From images to posteriors. Everything left of the posterior file needs torch, everything right of it only arrays.
DATA = "results/{experiment}/data/{dataset}.safetensors"


rule train_vae:
    input:
        data=DATA,
    output:
        vae=f"{MODEL}/vae.safetensors",
        history=f"{MODEL}/history.csv",
    log:
        "logs/{experiment}/train_vae/{dataset}_{architecture}_latent_{latent_dim}_kl_{kl_weight}_seed_{seed}.log",
    wildcard_constraints:
        # Where batches are on, they make these files (batches.smk), and this rule matches none.
        architecture=one_of(
            [] if config["batches"]["enabled"] else column("architecture", TRAINED)
        ),
    cache: True
    conda:
        "../../environment.yml"
    # One thread: torch's results change with the number of threads, and models train beside each other.
    threads: 1
    resources:
        mem_mb=1500,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=0,
    params:
        settings=lambda w: training_settings(cell_of(w)),
        # In the params and not only in the resources, since a GPU's last bits differ and caches must not mix them.
        device=lambda w, resources: "cuda" if resources.gpu else "cpu",
        code=code("train_vae"),
        cache_key=cache_key,
    script:
        "../../scripts/train_vae.py"


rule encode_posteriors:
    input:
        data=DATA,
        vae=rules.train_vae.output.vae,
    output:
        posteriors=f"{MODEL}/posteriors.safetensors",
        losses=f"{MODEL}/losses.csv",
    log:
        "logs/{experiment}/encode_posteriors/{dataset}_{architecture}_latent_{latent_dim}_kl_{kl_weight}_seed_{seed}.log",
    wildcard_constraints:
        architecture=one_of(column("architecture", TRAINED)),
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        code=code("encode_posteriors"),
        cache_key=cache_key,
    script:
        "../../scripts/encode_posteriors.py"


rule prepare_posteriors:
    input:
        posteriors=lambda w: cell_of(w)["file"],
    output:
        posteriors=f"{MODEL}/posteriors.safetensors",
    log:
        "logs/{experiment}/prepare_posteriors/{dataset}_{architecture}_latent_{latent_dim}_kl_{kl_weight}_seed_{seed}.log",
    wildcard_constraints:
        architecture="external",
    cache: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        latent_dim=lambda w: int(w.latent_dim),
        code=code("prepare_posteriors"),
        cache_key=cache_key,
    script:
        "../../scripts/prepare_posteriors.py"
