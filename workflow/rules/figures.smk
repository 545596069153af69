# One rule and one script per figure; each reads tables and computes no statistics.
PLOT = {"style": PLOTTING}
TABLE = {
    "moments": rules.collect_moments.output.table,
    "training": rules.collect_training.output.table,
    "marginals": rules.collect_marginals.output.table,
    "marginal_curves": rules.collect_marginals.output.curves,
    "divergence": rules.collect_divergence.output.table,
    "samplers": rules.collect_samplers.output.table,
    "latent_density": rules.collect_latent_maps.output.density,
    "latent_ellipses": rules.collect_latent_maps.output.ellipses,
    "controls": rules.collect_controls.output.table,
}


rule plot_kurtosis_by_kl_weight:
    input:
        **tables("moments", "controls"),
    output:
        **figure("kurtosis_by_kl_weight", "1 Moments"),
    log:
        "logs/{experiment}/plot_kurtosis_by_kl_weight.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        code=code("plot_kurtosis_by_kl_weight"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_kurtosis_by_kl_weight.py"


rule plot_kurtosis_by_activity:
    input:
        **tables("moments"),
    output:
        **figure("kurtosis_by_activity", "1 Moments"),
    log:
        "logs/{experiment}/plot_kurtosis_by_activity.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        code=code("plot_kurtosis_by_activity"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_kurtosis_by_activity.py"


rule plot_kurtosis_terms:
    input:
        **tables("moments"),
    output:
        **figure("kurtosis_terms", "1 Moments"),
    log:
        "logs/{experiment}/plot_kurtosis_terms.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        code=code("plot_kurtosis_terms"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_kurtosis_terms.py"


rule plot_variance_law:
    input:
        **tables("moments", "training"),
    output:
        **figure("variance_law", "1 Moments"),
    log:
        "logs/{experiment}/plot_variance_law.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        code=code("plot_variance_law"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_variance_law.py"


rule plot_active_dimensions:
    input:
        **tables("moments"),
    output:
        **figure("active_dimensions", "1 Moments"),
    log:
        "logs/{experiment}/plot_active_dimensions.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        code=code("plot_active_dimensions"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_active_dimensions.py"


rule plot_rate_distortion:
    input:
        **tables("training"),
    output:
        **figure("rate_distortion", "1 Moments"),
    log:
        "logs/{experiment}/plot_rate_distortion.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        code=code("plot_rate_distortion"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_rate_distortion.py"


rule plot_marginals:
    input:
        **tables("marginals", "marginal_curves"),
    output:
        **figure("marginals", "2 Distance from N(0, I)"),
    log:
        "logs/{experiment}/plot_marginals.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        code=code("plot_marginals"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_marginals.py"


rule plot_latent_map:
    input:
        **tables("latent_density", "latent_ellipses"),
    output:
        **figure("latent_map", "2 Distance from N(0, I)"),
    log:
        "logs/{experiment}/plot_latent_map.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        code=code("plot_latent_map"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_latent_map.py"


rule plot_divergence:
    input:
        **tables("divergence"),
    output:
        **figure("divergence", "2 Distance from N(0, I)"),
    log:
        "logs/{experiment}/plot_divergence.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        code=code("plot_divergence"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_divergence.py"


rule plot_sampler_split:
    input:
        **tables("samplers"),
    output:
        **figure("sampler_split", "3 Generation"),
    log:
        "logs/{experiment}/plot_sampler_split.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        code=code("plot_sampler_split"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_sampler_split.py"


rule plot_sampler_plates:
    input:
        plates=model_files("sample_plates.safetensors", JUDGED_CELLS),
    output:
        **figure("sampler_plates", "3 Generation"),
    log:
        "logs/{experiment}/plot_sampler_plates.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **PLOT,
        cells=keys_of(JUDGED_CELLS),
        code=code("plot_sampler_plates"),
        cache_key=cache_key,
    script:
        "../../scripts/plot_sampler_plates.py"


FIGURES = [
    experiment_file(f"figures/{drawn.name.removeprefix('plot_')}.{suffix}")
    for drawn in workflow.rules
    if drawn.name.startswith("plot_")
    for suffix in ("svg", "pdf", "png")
]
