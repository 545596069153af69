# One page for a browser, nothing loaded from outside.
#   needs  claims.json, tables, figures, the decoders of two-dimensional models, one plate of images for each cell
#   makes  explorer.json (what can be explored; published), index.html
TEMPLATES = "scripts/aggregated_posterior/figures/templates"
# One model for each cell stands for it; of the latent maps three KL weights, since each brings its decoder along.
SHOWN_CELLS = first_seeds(JUDGED_CELLS)
SHOWN_MAPS = spread(first_seeds(EXPLORED_CELLS), 3)


rule collect_explorer:
    input:
        vae=model_files("vae.safetensors", SHOWN_MAPS),
        posteriors=model_files("posteriors.safetensors", SHOWN_MAPS),
        density=model_files("latent_density.csv", SHOWN_MAPS),
        plates=model_files("sample_plates.safetensors", SHOWN_CELLS),
        curves=model_files("marginal_curves.csv", SHOWN_CELLS),
    output:
        explorer="results/{experiment}/explorer.json",
    log:
        "logs/{experiment}/collect_explorer.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **keyed("collect_explorer"),
        settings={
            "map_keys": keys_of(SHOWN_MAPS),
            "keys": keys_of(SHOWN_CELLS),
            "components": config["samplers"]["components"],
            "seed": 0,
        },
    script:
        "../../scripts/collect_explorer.py"


rule collect_page:
    input:
        **tables("samplers", "moments"),
        claims="results/{experiment}/claims.json",
        explorer=rules.collect_explorer.output.explorer,
        figures=[f"results/{{experiment}}/figures/{name}.png" for name in DRAWN],
        findings=[f"results/{{experiment}}/figures/{name}.rst" for name in DRAWN],
        template=f"{TEMPLATES}/experiment.html.j2",
        # They are included by the template.
        parts=[f"{TEMPLATES}/base.css.j2", f"{TEMPLATES}/experiment.js.j2"],
    output:
        page="results/{experiment}/index.html",
    log:
        "logs/{experiment}/collect_page.log",
    cache: True
    conda:
        "../../environment.yml"
    params:
        **keyed("collect_page"),
        names=list(DRAWN),
        experiment=lambda w: w.experiment,
    script:
        "../../scripts/collect_page.py"
