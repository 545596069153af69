"""From a configuration to models, and errors that name the key and what is allowed."""

from pathlib import Path

import pytest

from aggregated_posterior.pipeline.configuration import cells, validate
from aggregated_posterior.pipeline.schemas import load_registry, read_yaml
from aggregated_posterior.storage import DataError

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = read_yaml(ROOT / "workflow/schemas/config.schema.yaml")
DATASETS = load_registry(ROOT / "config/datasets.yaml", ROOT / "workflow/schemas/datasets.schema.yaml")
SWEEP = {"datasets": ["digits"], "architectures": ["dense"], "latent_dims": [2], "kl_weights": [1], "seeds": [0]}


def config(**changes):
    return {"experiment": "test", "sweeps": [SWEEP], **changes}


def check(content):
    return cells(validate(content, SCHEMA, "config.yaml"), DATASETS)


def sweep(**changes):
    return config(sweeps=[{**SWEEP, **changes}])


def control(**changes):
    own = {"datasets": ["control_gaussian"], "architectures": ["linear"], "training": {"likelihood": "gaussian"}}
    return sweep(**{**own, **changes})


@pytest.mark.parametrize("name", ["config.yaml", "mnist.yaml"])
def test_the_configurations_that_come_with_the_project_are_valid(name):
    assert check(read_yaml(ROOT / "config" / name))


def test_a_sweep_is_the_product_of_its_lists():
    found = check(sweep(latent_dims=[2, 4], kl_weights=[0.25, 1, 4], seeds=[0, 1]))
    assert len(found) == 12
    assert {cell["kl_weight"] for cell in found} == {"0.25", "1", "4"}
    assert found[0]["training"]["hidden_sizes"] == [256, 64]


def test_defaults_are_filled_in_at_every_depth():
    content = validate(config(), SCHEMA, "config.yaml")
    assert content["training"]["batch_size"] == 128
    assert content["statistics"]["active_threshold"] == 0.05
    assert content["external_posteriors"] == []


def test_a_control_may_have_as_many_latent_dimensions_as_principal_components():
    assert len(check(control(latent_dims=[1, 8]))) == 2


def test_a_sweep_changes_the_training_it_names_and_no_more():
    found = check(config(sweeps=[{**SWEEP, "training": {"epochs": 3}}], training={"learning_rate": 0.5}))
    assert found[0]["training"]["epochs"] == 3
    assert found[0]["training"]["learning_rate"] == 0.5
    assert found[0]["training"]["batch_size"] == 128


def test_linear_models_have_no_hidden_layers():
    assert check(sweep(architectures=["linear"]))[0]["training"]["hidden_sizes"] == []


def test_a_variant_is_part_of_the_label_and_not_of_the_module():
    found = check(config(sweeps=[SWEEP, {**SWEEP, "variant": "customary", "training": {"regauge_once": True}}]))
    assert [cell["architecture"] for cell in found] == ["dense", "dense_customary"]
    assert [cell["training"]["architecture"] for cell in found] == ["dense", "dense"]
    assert [cell["training"]["regauge_once"] for cell in found] == [False, True]


def test_settings_of_other_architectures_are_not_in_a_models_own():
    one, other = (
        check(config(sweeps=[{**SWEEP, "architectures": ["conv"]}], training={"hidden_sizes": sizes}))
        for sizes in ([8], [16])
    )
    assert one == other


def test_posteriors_that_are_made_have_no_training():
    made = check(sweep(datasets=["control_mixture"], architectures=["made"], latent_dims=[4]))
    assert (made[0]["training"], made[0]["likelihood"]) == (None, "none")


def test_the_same_model_twice_is_one_model():
    assert len(check(config(sweeps=[SWEEP, SWEEP]))) == 1


def test_external_posteriors_are_models_without_training():
    entry = {"name": "theirs", "file": "x.npz", "latent_dim": 5}
    found = check(config(sweeps=[], external_posteriors=[entry]))
    assert found == [
        {
            "dataset": "theirs",
            "architecture": "external",
            "likelihood": "unknown",
            "latent_dim": 5,
            "kl_weight": "1",
            "seed": 0,
            "training": None,
            "file": "x.npz",
        }
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (config(sweps=[SWEEP]), "unknown key sweps"),
        (config(training={"epoch": 3}), "unknown key epoch"),
        (config(training={"learning_rate": "1e-3"}), "YAML reads 1e-3 as text"),
        (config(training={"epochs": "3"}), "without quotes"),
        (config(training={"epochs": 2.5}), "epochs"),
        (config(training={"epochs": 0}), "epochs"),
        (config(training={"hidden_sizes": []}), "hidden_sizes"),
        (config(training={"hidden_sizes": [16, -1]}), "hidden_sizes"),
        (config(training={"likelihood": "poisson"}), "poisson"),
        (config(training={"decoder_variance": 0}), "decoder_variance"),
        (config(training={"learning_rate": -0.1}), "learning_rate"),
        (config(training={"batch_size": None}), "batch_size"),
        (config(training=[1]), "training"),
        (sweep(latent_dims=[0]), "latent_dims"),
        (sweep(latent_dims=[-2]), "latent_dims"),
        (sweep(latent_dims=[1.5]), "latent_dims"),
        (sweep(latent_dims=[]), "latent_dims"),
        (sweep(latent_dims=2), "latent_dims"),
        (sweep(latent_dims=[2, 2]), "latent_dims"),
        (sweep(kl_weights=[-1]), "kl_weights"),
        (sweep(kl_weights=[0]), "kl_weights"),
        (sweep(kl_weights=["1e-3"]), "1.0e-03"),
        (sweep(kl_weights=[1, 1.0]), "kl_weights"),
        (sweep(kl_weights=[True]), "kl_weights"),
        (sweep(seeds=[-1]), "seeds"),
        (sweep(seeds=[2**40]), "seeds"),
        (sweep(seeds=["a"]), "seeds"),
        (sweep(architectures=["densse"]), "densse"),
        (sweep(datasets=["minst"]), "minst"),
        (sweep(datasets=[]), "datasets"),
        (sweep(datasets=["control_gaussian"], architectures=["linear"]), "gaussian"),
        (sweep(variant="Customary"), "variant"),
        (sweep(variant="two_words"), "variant"),
        (config(training={"regauge_epochs": -1}), "regauge_epochs"),
        (config(training={"regauge_epochs": 40}), "leaves the last 40 of 40 epochs free"),
        (config(training={"regauge_adam": "forget"}), "forget"),
        (control(architectures=["conv"]), "known for the linear VAE alone"),
        (control(architectures=["dense"]), "known for the linear VAE alone"),
        (control(latent_dims=[4, 9]), "9 is more than the 8 principal components of control_gaussian"),
        (sweep(architectures=["made"]), "kind `posteriors`"),
        (sweep(datasets=["control_mixture"]), "the architecture made"),
        (sweep(training={"epoch": 1}), "unknown key epoch"),
        (config(experiment="a/b"), "experiment"),
        (config(experiment=""), "experiment"),
        (config(experiment="published"), "published"),
        (config(experiment=3), "experiment"),
        ({"sweeps": [SWEEP]}, "experiment is missing"),
        (config(sweeps=[]), "nothing to do"),
        (config(sweeps=[{"datasets": ["digits"]}]), "missing"),
        (config(sweeps=[SWEEP, {**SWEEP, "training": {"epochs": 7}}]), "asked for twice"),
        (config(sweeps=[SWEEP, {**SWEEP, "kl_weights": [1.0], "seeds": [1]}]), "one number"),
        (config(statistics={"active_threshold": 0}), "active_threshold"),
        # Every interval is one of 95 %, as figures and claims say.
        (config(statistics={"confidence": 0.9}), "unknown key confidence"),
        (config(statistics={"draws": 3}), "draws"),
        (config(judges={"seeds": []}), "seeds"),
        (config(judges={"epochs": 98}), "epochs"),
        (config(samplers={"draws": 0}), "draws"),
        (config(samplers={"components": [0]}), "components"),
        (config(samplers={"images": 3}), "images"),
        (config(external_posteriors=[{"name": "a", "file": "x"}]), "latent_dim is missing"),
        (config(external_posteriors=[{"name": "digits", "file": "x", "latent_dim": 2}]), "digits"),
        ([], "type"),
    ],
)
def test_bad_configurations_are_refused_in_one_line(content, said):
    with pytest.raises(DataError) as caught:
        check(content)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_key_has_a_description():
    def walk(schema, path):
        for key, rule in schema.get("properties", {}).items():
            assert rule.get("description"), f"{path}.{key} has no description"
            walk(rule, f"{path}.{key}")
            walk(rule.get("items", {}), f"{path}.{key}")

    walk(SCHEMA, "config")
