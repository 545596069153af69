# From public hosts, folders and seeds to one file of images per data set.
#   needs  config/datasets.yaml, the internet or a mirror
#   makes  resources/*, data/{dataset}.safetensors


rule download_dataset:
    output:
        **{part: f"resources/{{dataset}}/{name}" for part, name in IDX_FILES.items()},
    log:
        "logs/download_dataset/{dataset}.log",
    wildcard_constraints:
        dataset=one_of(DOWNLOADED),
    cache: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=500,
        runtime=30,
    params:
        **keyed("download_dataset"),
        settings=lambda w: {
            "dataset": w.dataset,
            **{key: DATASETS[w.dataset][key] for key in ("files", "hosts")},
        },
    script:
        "../../scripts/download_dataset.py"


rule prepare_dataset:
    input:
        unpack(raw_files),
    output:
        data="results/{experiment}/data/{dataset}.safetensors",
    log:
        "logs/{experiment}/prepare_dataset/{dataset}.log",
    cache: True
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        **keyed("prepare_dataset"),
        settings=lambda w: {
            "dataset": w.dataset,
            "entry": without_prose(DATASETS[w.dataset]),
            "seed": 0,
        },
    script:
        "../../scripts/prepare_dataset.py"
