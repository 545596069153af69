"""Lines of progress say which model, how far and how long, and do not come too often."""

import pytest

from aggregated_posterior.pipeline.progress import Progress, job_label, label_of_file

MODEL = "results/mnist/models/fashion_mnist/dense_customary/latent_16/kl_0.5/seed_12"
LABEL = "fashion_mnist dense_customary d=16 β=0.5 seed 12"


@pytest.mark.parametrize(
    ("path", "label"),
    [
        (f"{MODEL}/vae.safetensors", f"train_vae {LABEL}"),
        (f"/somewhere/else/{MODEL}/samplers.csv", f"train_vae {LABEL}"),
        ("results/digits/judges/digits/judge_3.safetensors", "train_vae digits seed 3"),
        ("model.safetensors", "train_vae"),
    ],
)
def test_a_file_says_whose_it_is(path, label):
    assert label_of_file("train_vae", path) == label


def test_a_label_leaves_out_what_names_no_model_and_cannot_move_the_cursor():
    place = {"seed": "0", "experiment": "tiny", "dataset": "a\x1b[2J"}
    assert job_label("train_judge", place) == "train_judge a\\x1b[2J seed 0"


def test_a_line_at_most_every_ten_seconds_with_the_pace_since_the_last(capsys):
    now = 0.0
    progress = Progress(label_of_file("train_vae", f"{MODEL}/vae.safetensors"), "epoch", clock=lambda: now)
    for epoch in range(1, 31):
        # Two seconds an epoch, and four from the eleventh on.
        now += 2 if epoch <= 10 else 4
        progress(epoch, 30, "kl 24.9 nats")
    lines = capsys.readouterr().err.splitlines()
    said = [line[17:] for line in lines]
    assert said[0] == f"train_vae {LABEL} · epoch 5/30 · kl 24.9 nats · 50 s left"
    assert said[2] == f"train_vae {LABEL} · epoch 13/30 · kl 24.9 nats · 68 s left"
    # At 10 and 20 s, then after three epochs of 4 s each, and none for the last epoch: that line is Snakemake's.
    assert [line.split("epoch ")[1].split("/")[0] for line in said] == "5 10 13 16 19 22 25 28".split()


def test_a_short_job_prints_nothing(capsys):
    progress = Progress("train_vae", "epoch", clock=lambda: 0.0)
    for epoch in range(1, 4):
        progress(epoch, 3)
    assert capsys.readouterr().err == ""
