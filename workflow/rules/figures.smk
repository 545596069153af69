# One rule and one script per figure; each reads tables and computes no statistics.
#   needs  tables/*.csv, the plates of images beside each model, config/plotting.yaml
#   makes  figures/*.{svg,pdf,png}, and the sentence under each (.rst)
# Figure → its chapter in the report, and what it is drawn from.
DRAWN = {
    "kurtosis_by_kl_weight": ("1 Moments", tables("moments", "controls")),
    "kurtosis_by_activity": ("1 Moments", tables("moments")),
    "kurtosis_terms": ("1 Moments", tables("moments")),
    "variance_law": ("1 Moments", tables("moments", "training")),
    "active_dimensions": ("1 Moments", tables("moments")),
    "rate_distortion": ("1 Moments", tables("training")),
    "marginals": ("2 Distance from N(0, I)", tables("marginals", "marginal_curves")),
    "latent_map": (
        "2 Distance from N(0, I)",
        tables("latent_density", "latent_ellipses"),
    ),
    "divergence": ("2 Distance from N(0, I)", tables("divergence")),
    "sampler_split": ("3 Generation", tables("samplers")),
    "penalty_shares": ("3 Generation", tables("samplers")),
    "sampler_plates": (
        "3 Generation",
        {
            "plates": model_files("sample_plates.safetensors", JUDGED_CELLS),
            **tables("moments"),
        },
    ),
}

for figure_name, (chapter, source) in DRAWN.items():

    rule:
        name:
            f"plot_{figure_name}"
        input:
            **source,
        output:
            **figure(figure_name, chapter),
        log:
            f"logs/{{experiment}}/plot_{figure_name}.log",
        cache: True
        conda:
            "../../environment.yml"
        params:
            **keyed(f"plot_{figure_name}"),
            style=PLOTTING,
            active=activity_label(STATISTICS["active_threshold"]),
            # Defines |C0|, |C1| …: each claim's verdict in this experiment, for the caption.
            verdicts=lambda w: f"results/{w.experiment}/claims.rst",
            cells=keys_of(JUDGED_CELLS) if "plates" in source else [],
            # The path below is read when the job runs, and the loop's variable would name the last figure then.
            script=f"plot_{figure_name}.py",
        script:
            "../../scripts/{params.script}"


FIGURES = [
    experiment_file(f"figures/{name}.{suffix}")
    for name in DRAWN
    for suffix in ("svg", "pdf", "png")
]
