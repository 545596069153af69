"""A small classifier whose penultimate layer gives the features in which images are compared.

The customary network for image quality is pretrained and has to be downloaded; a judge is trained within the
pipeline, on the training images alone. Several judges that differ only in their seed show how far a ranking depends
on the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..model.optimiser import Adam
from ..model.training import as_tensor, cosine_learning_rate, generators
from ..storage import DataError, read_arrays, write_arrays

FEATURES = 64


class Judge(nn.Module):
    """Two strided convolutions, a layer of 64 features, and class scores.

    Strides instead of pooling keep one pass over 10 000 MNIST images below half a second on one core.

    Args:
        image_shape: (H, W) or (H, W, C) of an image.
        classes: Number of classes.
    """

    def __init__(self, image_shape: Sequence[int], classes: int) -> None:
        super().__init__()
        if len(image_shape) not in (2, 3):
            raise DataError(f"a judge needs images of shape (H, W) or (H, W, C), not {tuple(image_shape)}")
        height, width, channels = (*image_shape, 1)[:3]
        self.image_shape = list(image_shape)
        self.classes = classes
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        # Each stride of 2 with padding 1 halves a side, rounding up.
        self.penultimate = nn.Linear(32 * -(-height // 4) * -(-width // 4), FEATURES)
        self.scores = nn.Linear(FEATURES, classes)
        self.register_buffer("feature_scale", torch.ones(()))

    def hidden(self, x: Tensor) -> Tensor:
        """Unscaled features (B, 64) of pixels `x` (B, P) in [0, 1]."""
        height, width, channels = (*self.image_shape, 1)[:3]
        images = x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        return functional.relu(self.penultimate(self.convolutions(images)))

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (B, classes) of pixels `x` (B, P) in [0, 1]."""
        return self.scores(self.hidden(x))

    @torch.no_grad()
    def judge(self, pixels: np.ndarray | Tensor, block_size: int = 1000) -> tuple[np.ndarray, np.ndarray]:
        """Features float32 (N, 64) and predicted classes int64 (N,) of `pixels` (N, P) in [0, 1].

        The features are scaled so that their 64 variances over the training images have mean 1; a Fréchet distance is
        therefore in the same unit for every judge.
        """
        features, classes = [], []
        for block in torch.as_tensor(pixels).split(block_size):
            hidden = self.hidden(block.float())
            features.append(hidden / self.feature_scale)
            classes.append(self.scores(hidden).argmax(1))
        return torch.cat(features).numpy(), torch.cat(classes).numpy()


def train_judge(
    images: np.ndarray,
    labels: np.ndarray,
    image_shape: Sequence[int],
    maximum: float,
    classes: int,
    seed: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    on_epoch: Callable[[int, float], Any] = lambda epoch, loss: None,
) -> Judge:
    """Train one judge by cross-entropy with Adam, whose learning rate falls to zero along a half cosine.

    Args:
        images: Training images, first axis N.
        labels: Their classes, (N,) integers from 0 to `classes` − 1.
        image_shape: Shape of one image.
        maximum: The value that becomes pixel value 1.
        classes: Number of classes.
        seed: Seed of the initial weights and of the order of the images.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: Adam's rate at the first step.
        on_epoch: Called with every epoch's number and mean loss in nats.

    Raises:
        DataError: Labels do not fit the images or the number of classes.
    """
    if len(labels) != len(images):
        raise DataError(f"there are {len(images)} training images but {len(labels)} labels")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"labels must lie between 0 and {classes - 1}; there are none, or some lie outside")
    weight_generator, order_generator, _ = generators(seed, "judge")
    judge = Judge(image_shape, classes)
    for module in judge.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            # He et al. 2015: keeps the variance of what passes through a ReLU.
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu", generator=weight_generator)
            nn.init.zeros_(module.bias)
    data = as_tensor(images).reshape(len(images), -1)
    targets = torch.as_tensor(np.asarray(labels, dtype=np.int64))
    optimiser = Adam(judge.parameters())
    batches = -(-len(data) // batch_size)
    for epoch in range(epochs):
        order = torch.randperm(len(data), generator=order_generator)
        total = 0.0
        for batch in range(batches):
            step = epoch * batches + batch
            rows = order[batch * batch_size : (batch + 1) * batch_size]
            loss = functional.cross_entropy(judge(data.index_select(0, rows) / maximum), targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step(cosine_learning_rate(learning_rate, step, epochs * batches))
            total += loss.item() * len(rows)
        on_epoch(epoch + 1, total / len(data))
    judge.eval().requires_grad_(False)
    # A few thousand images fix a scale well enough, and spare a pass over all of them.
    features, _ = judge.judge(data[:10_000] / maximum)
    scale = float(np.sqrt(features.astype(np.float64).var(0).mean()))
    if not np.isfinite(scale) or scale == 0:
        raise DataError("the judge gives the same features for every training image; lower its learning rate")
    judge.feature_scale.fill_(scale)
    return judge


def accuracy(judge: Judge, images: np.ndarray, labels: np.ndarray, maximum: float) -> float:
    """Share of `images` whose predicted class is their label."""
    pixels = as_tensor(images).reshape(len(images), -1) / maximum
    return float((judge.judge(pixels)[1] == np.asarray(labels)).mean())


def save_judge(path: str | Path, judge: Judge, metadata: dict[str, Any]) -> None:
    """Write weights and what is needed to build the judge again, with `metadata` beside it."""
    arrays = {name: tensor.numpy() for name, tensor in judge.state_dict().items()}
    write_arrays(path, arrays, {"judge": {"image_shape": judge.image_shape, "classes": judge.classes}, **metadata})


def load_judge(path: str | Path) -> tuple[Judge, dict[str, Any]]:
    """Read a judge that `save_judge` wrote: the module in evaluation mode, and its metadata."""
    arrays, metadata = read_arrays(path)
    try:
        judge = Judge(**metadata["judge"])
        judge.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{path}: is not a judge of this pipeline ({str(error).splitlines()[0]})") from None
    return judge.eval().requires_grad_(False), metadata
