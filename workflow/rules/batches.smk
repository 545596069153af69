# Many models at once, for a GPU that a single model leaves idle: takes the place of train_vae where the configuration
# has `batches: {enabled: true}`. Its files are those of train_vae.

# One rule per batch, since a rule's outputs cannot depend on its wildcards. The loop ends before it begins unless
# batches are on.
BATCHES = (
    configuration.batches(TRAINED, config["batches"]["models"])
    if config["batches"]["enabled"]
    else []
)

for number, cells in enumerate(BATCHES):

    rule:
        name:
            f"train_vae_batch_{number}"
        input:
            data=f"results/{EXPERIMENT}/data/{cells[0]['dataset']}.safetensors",
        output:
            # The cache wants one name per file; the models' settings below are in the same order.
            **{
                f"vae_{n}": path
                for n, path in enumerate(model_files("vae.safetensors", cells))
            },
            **{
                f"history_{n}": path
                for n, path in enumerate(model_files("history.csv", cells))
            },
        log:
            f"logs/{EXPERIMENT}/train_vae_batch/{number}.log",
        cache: True
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            # One epoch's noise and codes lie in memory: 64 models, 60 000 images, 32 latent dimensions take 1.5 GB.
            mem_mb=6000,
            runtime=lambda wildcards, attempt: 120 * attempt,
            gpu=config["batches"]["gpu"],
        params:
            settings=[training_settings(cell) for cell in cells],
            device=lambda w, resources: "cuda" if resources.gpu else "cpu",
            code=code("train_vae_batch"),
            cache_key=cache_key,
        script:
            "../../scripts/train_vae_batch.py"
