"""Batches hold models of one kind, and every model once."""

from aggregated_posterior.pipeline.configuration import batches


def cell(dataset, architecture, epochs, seed):
    return {
        "dataset": dataset,
        "architecture": architecture,
        "latent_dim": 2,
        "training": {"epochs": epochs},
        "seed": seed,
    }


def test_batches_are_of_a_kind_in_order_and_bounded():
    cells = [
        cell(*kind, seed)
        for kind in [("a", "dense", 1), ("b", "dense", 1), ("a", "linear", 1), ("a", "dense", 2)]
        for seed in (0, 1, 2, 3, 4)
    ]
    result = batches(cells, 2)
    assert [len(batch) for batch in result] == [2, 2, 1] * 4
    for batch in result:
        assert len({str((one["dataset"], one["architecture"], one["training"])) for one in batch}) == 1
    assert [one["seed"] for batch in result[:3] for one in batch] == [0, 1, 2, 3, 4]
    flat = [one for batch in result for one in batch]
    assert len(flat) == len(cells) and all(flat.count(one) == 1 for one in cells)


def test_settings_written_in_another_order_are_the_same_kind():
    one = {"dataset": "a", "architecture": "dense", "latent_dim": 2, "training": {"x": 1, "y": 2}, "seed": 0}
    two = {"dataset": "a", "architecture": "dense", "latent_dim": 2, "training": {"y": 2, "x": 1}, "seed": 1}
    assert len(batches([one, two], 64)) == 1
    assert batches([], 64) == []


def test_a_new_seed_leaves_full_batches_as_they_were():
    def sweep(seeds):
        return [{**cell("a", "dense", 1, seed), "kl_weight": weight} for weight in "1234" for seed in seeds]

    before, after = batches(sweep([0, 1]), 4), batches(sweep([0, 1, 2]), 4)
    assert after[:2] == before
    assert {one["seed"] for one in after[2]} == {2}
