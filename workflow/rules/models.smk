# From images to models and from models to posteriors.
#   needs  data/{dataset}.safetensors, or posteriors of the user's own
#   makes  vae.safetensors, history.csv, posteriors.safetensors beside each model
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
        **keyed("train_vae"),
        settings=lambda w: training_settings(cell_of(w)),
        # In the params and not only in the resources, since a GPU's last bits differ and caches must not mix them.
        device=lambda w, resources: "cuda" if resources.gpu else "cpu",
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
        **keyed("encode_posteriors"),
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
        **keyed("prepare_posteriors"),
        latent_dim=lambda w: int(w.latent_dim),
    script:
        "../../scripts/prepare_posteriors.py"


rule prepare_control_posteriors:
    output:
        posteriors=f"{MODEL}/posteriors.safetensors",
    log:
        "logs/{experiment}/prepare_control_posteriors/{dataset}_{architecture}_latent_{latent_dim}_kl_{kl_weight}_seed_{seed}.log",
    wildcard_constraints:
        architecture=configuration.MADE,
    cache: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=500,
        runtime=5,
    params:
        **keyed("prepare_control_posteriors"),
        latent_dim=lambda w: int(w.latent_dim),
    script:
        "../../scripts/prepare_control_posteriors.py"
