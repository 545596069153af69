"""Adam (Kingma and Ba 2015) on all weights of a module as one vector."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.optim.adam import adam


class FlatAdam:
    """PyTorch's fused Adam over one vector that holds all parameters, which become views of it, as do their gradients.

    At these sizes the optimiser is bound by memory traffic and by calls, so one kernel serves all parameters. It is
    called by its functional form: building a `torch.optim.Adam` imports PyTorch's compiler, more than a second that
    every short training would pay.

    Args:
        module: The module to train, on its device already.

    Attributes:
        gradient: The gradient of all parameters, to be filled (and, where automatic differentiation adds to it,
            zeroed) before each step.
    """

    def __init__(self, module: nn.Module) -> None:
        parameters = list(module.parameters())
        self.weights = nn.utils.parameters_to_vector(parameters).detach()
        self.gradient = torch.zeros_like(self.weights)
        self.first_moment = torch.zeros_like(self.weights)
        self.second_moment = torch.zeros_like(self.weights)
        self.steps = torch.zeros(1, device=self.weights.device)
        sizes = [parameter.numel() for parameter in parameters]
        pieces = zip(parameters, self.weights.split(sizes), self.gradient.split(sizes), strict=True)
        for parameter, values, gradient in pieces:
            parameter.data = values.view_as(parameter)
            parameter.grad = gradient.view_as(parameter)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """θ ← θ − η m̂ / (√v̂ + 10⁻⁸) with m̂ and v̂ the bias-corrected means of the gradient and its square."""
        adam(
            [self.weights],
            [self.gradient],
            [self.first_moment],
            [self.second_moment],
            [],
            [self.steps],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a later step depends on, the weights too."""
        return {name: getattr(self, name).cpu().numpy() for name in _STATE}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take up what `state` gave."""
        for name in _STATE:
            getattr(self, name).copy_(torch.from_numpy(arrays[name]))


_STATE = ("weights", "first_moment", "second_moment", "steps")
