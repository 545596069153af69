# What all rules share: the checked configuration, the list of models, and how a rule's cache key is made.
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Not workflow.basedir, which is the folder of whichever Snakefile was called.
WORKFLOW = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
SCRIPTS = WORKFLOW.parent / "scripts"
sys.path[:0] = [str(SCRIPTS), str(WORKFLOW)]

from aggregated_posterior import numerics
from aggregated_posterior.pipeline import configuration
from aggregated_posterior.data.archives import list_files
from aggregated_posterior.data.idx import IDX_FILES
from aggregated_posterior.evidence.tables import activity_label
from aggregated_posterior.pipeline.code_digest import code_digest
from aggregated_posterior.pipeline.schemas import (
    attributed,
    load_registry,
    read_yaml,
    without_prose,
)
from aggregated_posterior.storage import DataError
from snakemake.logging import logger
from verified_cache import use_verified_cache
from watching import say_failures, say_verdicts, watch

# Before the first rule. Does nothing without --cache.
use_verified_cache(workflow)
WATCHED = watch(workflow)

SCHEMAS = WORKFLOW / "schemas"


def checked(path, schema, content=None):
    """A YAML file's (or a given dictionary's) content, checked against a schema and with its defaults filled in."""
    content = read_yaml(path) if content is None else content
    source = path if isinstance(path, list) else str(path)
    return configuration.validate(content, read_yaml(SCHEMAS / schema), source)


def configuration_files():
    """Name and content of each file that Snakemake merged into `config`, in its order, the command line last.

    Read once more: Snakemake keeps the last of two equal keys without a word, and forgets which file a key is from.
    """
    given = [Path(path) for path in workflow.overwrite_configfiles]
    first = [path for path in map(Path, workflow.configfiles) if path not in given]
    here = Path.cwd()
    named = [
        (
            str(path.relative_to(here) if path.is_relative_to(here) else path),
            read_yaml(path),
        )
        for path in (*first, *given)
    ]
    typed = dict(workflow.config_settings.config)
    return [*named, *([("--config", typed)] if typed else [])]


try:
    SOURCES = configuration_files()
    config = checked(SOURCES, "config.schema.yaml", config)
    DATASETS = load_registry("config/datasets.yaml", SCHEMAS / "datasets.schema.yaml")
    PLOTTING = checked("config/plotting.yaml", "plotting.schema.yaml")
    CLAIMS = checked("config/claims.yaml", "claims.schema.yaml")
except DataError as error:
    raise WorkflowError(str(error)) from None

try:
    CELLS = configuration.cells(config, DATASETS)
except DataError as error:
    # Each of these messages begins with the key that it is about.
    key = str(error).partition(":")[0]
    raise WorkflowError(f"{attributed([key], SOURCES)}: {error}") from None

# For the jobs, each of which is a process of its own; on a cluster the job reads this file too, and sets them there.
numerics.apply(config["numerics"])
if numerics.notice():
    logger.warning(numerics.notice())

EXPERIMENT = config["experiment"]
JUDGE_SEEDS = [str(seed) for seed in config["judges"]["seeds"]]
if config["mirror"]:
    # Handed to the download script through the environment and not through params: where a file comes from does not
    # change it, so a new mirror must not make anything run again. Jobs on other nodes read this file too.
    os.environ.setdefault("AGGREGATED_POSTERIOR_MIRROR", config["mirror"])
MODEL = "results/{experiment}/models/{dataset}/{architecture}/latent_{latent_dim}/kl_{kl_weight}/seed_{seed}"
PLACE = ("dataset", "architecture", "latent_dim", "kl_weight", "seed")


def one_of(values):
    """A regular expression that matches these words and no others (never the empty word)."""
    return "|".join(sorted({re.escape(str(value)) for value in values})) or "(?!)"


def column(key, cells=None):
    """The values of one key over all models, as strings."""
    return [str(cell[key]) for cell in (CELLS if cells is None else cells)]


def unique(key, cells):
    """The different values of one key over some models, sorted."""
    return sorted(set(column(key, cells)))


def model_file(name, cell):
    """The path of a model's file."""
    return f"{MODEL}/{name}".format(experiment=EXPERIMENT, **cell)


def model_files(name, cells=None):
    """The paths of one file for many models, in the order of the configuration."""
    return [model_file(name, cell) for cell in (CELLS if cells is None else cells)]


def experiment_file(name):
    """The path of a file of the whole experiment."""
    return f"results/{EXPERIMENT}/{name}"


def cell_of(wildcards):
    """The configuration's entry for the model that a job's wildcards name."""
    place = tuple(getattr(wildcards, key) for key in PLACE)
    return next(
        cell for cell in CELLS if tuple(str(cell[key]) for key in PLACE) == place
    )


def keys_of(cells):
    """The key columns of these models' rows in tables, as JSON builtins."""
    keys = configuration.CELL_KEYS
    return [
        {"experiment": EXPERIMENT, **{key: cell[key] for key in keys}} for cell in cells
    ]


def is_image(cell):
    """Whether a model was trained here on images (and not on a control, nor elsewhere)."""
    return (
        cell["training"] is not None and DATASETS[cell["dataset"]]["kind"] != "control"
    )


TRAINED = [cell for cell in CELLS if cell["training"] is not None]
CONTROL_CELLS = [cell for cell in TRAINED if not is_image(cell)]
MADE_CELLS = [cell for cell in CELLS if cell["architecture"] == configuration.MADE]
IMAGE_CELLS = [cell for cell in CELLS if is_image(cell)]
JUDGED_CELLS = [
    cell for cell in IMAGE_CELLS if DATASETS[cell["dataset"]].get("classes")
]
MAP_CELLS = [cell for cell in IMAGE_CELLS if cell["latent_dim"] == 2]
# A page can hold a dense decoder.
EXPLORED_CELLS = [
    cell
    for cell in MAP_CELLS
    if cell["architecture"] == "dense" and DATASETS[cell["dataset"]].get("classes")
]


def first_seeds(cells):
    """One model of each cell, the one with its first seed."""
    first = {}
    for cell in cells:
        first.setdefault(tuple(cell[key] for key in PLACE if key != "seed"), cell)
    return list(first.values())


def spread(cells, count):
    """At most `count` of these cells, evenly spread over their order."""
    step = max(1, len(cells) - 1) / max(1, count - 1)
    chosen = sorted({round(n * step) for n in range(count)})
    return [cells[n] for n in chosen if n < len(cells)]


def training_settings(cell):
    """Everything that a trained model depends on besides its images, as the training script takes it."""
    return configuration.training_settings(
        cell, config["statistics"]["active_threshold"]
    )


def code(rule_name):
    """What computes a rule's files: a digest of its script with all library modules that this imports, and the numerics.

    Snakemake runs a job again when this changes. (Of `cache_key`, which asks for inputs, it looks at no change.)
    """
    digest = code_digest(SCRIPTS / f"{rule_name}.py")
    return f"{digest}, {config['numerics']} numerics"


def cache_key(wildcards, input):
    """What Snakemake's cache key lacks: wildcards, which input plays which part, and how the libraries compute.

    The experiment's name is left out, so that experiments share models; what depends on it has it among its params or
    in its input tables.
    """
    parts = {name: input.get(name) for name in input.keys()}

    def within(path):
        return str(path).removeprefix(f"results/{EXPERIMENT}/")

    paths = {
        name: (
            [within(path) for path in part]
            if isinstance(part, (list, tuple)) or hasattr(part, "keys")
            else within(part)
        )
        for name, part in parts.items()
    }
    return {
        "wildcards": {
            name: value for name, value in wildcards.items() if name != "experiment"
        },
        "input": paths,
        "numerics": numerics.describe(),
    }


def keyed(rule_name):
    """The two params that every cached rule has besides its own."""
    return {"code": code(rule_name), "cache_key": cache_key}


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


def table_path(name):
    """The path of one of the experiment's tables."""
    return f"results/{{experiment}}/tables/{name}.csv"


def tables(*names):
    """The named tables as named inputs."""
    return {name: table_path(name) for name in names}


def figure(name, category):
    """The outputs of one figure: vector and raster, and the sentence that says what it shows."""
    path = f"results/{{experiment}}/figures/{name}"
    title = name.replace("_", " ")

    def shown(suffix):
        return report(
            f"{path}.{suffix}",
            caption=f"../report/plot_{name}.rst",
            category=category,
            labels={"figure": title, "format": suffix.upper()},
        )

    return {
        "svg": shown("svg"),
        "pdf": f"{path}.pdf",
        "png": shown("png"),
        "finding": f"{path}.rst",
    }


def everything(wildcards):
    """All that the experiment makes, what lies between images and verdicts too.

    Snakemake does not miss a file that was removed from between two that are there.
    """
    of_models = {
        ("vae.safetensors", "history.csv", "losses.csv"): TRAINED,
        ("posteriors.safetensors", "divergence.json"): CELLS,
        ("moments.csv", "marginals.csv", "marginal_curves.csv"): CELLS,
        ("samplers.csv", "sample_plates.safetensors"): JUDGED_CELLS,
        ("latent_density.csv", "latent_ellipses.csv"): MAP_CELLS,
    }
    wanted = [
        *(f"claims.{suffix}" for suffix in ("json", "md", "html", "rst")),
        "index.html",
        "explorer.json",
        *(f"tables/{table}.csv" for table in [*COLLECTED, "controls", "judges"]),
        *(f"figures/{name}.rst" for name in DRAWN),
        *(f"data/{dataset}.safetensors" for dataset in unique("dataset", TRAINED)),
        *(
            f"judges/{dataset}/judge_{seed}.safetensors"
            for dataset in unique("dataset", JUDGED_CELLS)
            for seed in JUDGE_SEEDS
        ),
    ]
    files = [
        path
        for names, cells in of_models.items()
        for name in names
        for path in model_files(name, cells)
    ]
    return [*map(experiment_file, wanted), *FIGURES, *files]
