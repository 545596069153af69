# From public hosts to one file of images per data set.
from aggregated_posterior.file_trees import list_files

IDX_FILES = {
    "images_train": "train-images-idx3-ubyte.gz",
    "labels_train": "train-labels-idx1-ubyte.gz",
    "images_test": "t10k-images-idx3-ubyte.gz",
    "labels_test": "t10k-labels-idx1-ubyte.gz",
}
DOWNLOADED = [name for name, entry in DATASETS.items() if entry["kind"] == "idx"]


def raw_files(wildcards):
    """The files that a data set is made from: downloads, a folder of the user's own, or none."""
    entry = DATASETS[wildcards.dataset]
    if entry["kind"] == "idx":
        return {
            part: f"resources/{wildcards.dataset}/{name}"
            for part, name in IDX_FILES.items()
        }
    if entry["kind"] == "image_folder":
        # Every file, since Snakemake does not look into folders: a new image must be seen.
        return {"images": list_files(entry["path"])}
    return {}


rule download_dataset:
    output:
        **{part: f"resources/{{dataset}}/{name}" for part, name in IDX_FILES.items()},
    log:
        "logs/download_dataset/{dataset}.log",
    wildcard_constraints:
        dataset=one_of(DOWNLOADED),
    cache: True
    resources:
        mem_mb=500,
        runtime=30,
    params:
        settings=lambda w: {
            "dataset": w.dataset,
            **{key: DATASETS[w.dataset][key] for key in ("files", "hosts")},
        },
        code=code("download_dataset"),
        cache_key=cache_key,
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
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        settings=lambda w: {
            "dataset": w.dataset,
            "entry": without_prose(DATASETS[w.dataset]),
            "seed": 0,
        },
        code=code("prepare_dataset"),
        cache_key=cache_key,
    script:
        "../../scripts/prepare_dataset.py"
