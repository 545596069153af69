# Does the mismatch matter for generation? Judges, and the ladder of samplers that they score.
#   needs  data/{dataset}.safetensors, vae.safetensors, posteriors.safetensors
#   makes  judges/{dataset}/*.safetensors; samplers.csv, sample_plates.safetensors beside each model


rule train_judge:
    input:
        data="results/{experiment}/data/{dataset}.safetensors",
    output:
        judge="results/{experiment}/judges/{dataset}/judge_{seed}.safetensors",
    log:
        "logs/{experiment}/train_judge/{dataset}_seed_{seed}.log",
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        **keyed("train_judge"),
        settings=lambda w: {
            **DATASETS[w.dataset].get("judge", {}),
            "seed": int(w.seed),
        },
    script:
        "../../scripts/train_judge.py"


rule score_samplers:
    input:
        vae=f"{MODEL}/vae.safetensors",
        posteriors=f"{MODEL}/posteriors.safetensors",
        data="results/{experiment}/data/{dataset}.safetensors",
        judges=expand(
            "results/{{experiment}}/judges/{{dataset}}/judge_{seed}.safetensors",
            seed=JUDGE_SEEDS,
        ),
    output:
        scores=f"{MODEL}/samplers.csv",
        plates=f"{MODEL}/sample_plates.safetensors",
    log:
        "logs/{experiment}/score_samplers/{dataset}_{architecture}_latent_{latent_dim}_kl_{kl_weight}_seed_{seed}.log",
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        **keyed("score_samplers"),
        settings={**config["samplers"], "seed": 0},
    script:
        "../../scripts/score_samplers.py"
