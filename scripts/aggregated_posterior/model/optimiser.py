"""Adam (Kingma and Ba 2015) on all weights of a module at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


class Adam:
    """PyTorch's fused kernel of Adam, called once for all weights.

    Building a `torch.optim.Adam` imports PyTorch's compiler, more than a second that every short training would pay.

    Args:
        parameters: The tensors to train, on their device already.

    Attributes:
        state: For every parameter, as in `torch.optim.Adam`, the number of steps, and the running means of the
            gradient and of its square: `step`, `exp_avg`, `exp_avg_sq`.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        # One vector, so that one call counts them all; its elements are the parameters' own counts.
        self._count = torch.zeros(len(self.parameters), device=self.parameters[0].device)
        self.state: dict[Tensor, dict[str, Tensor]] = {
            parameter: {
                "step": step,
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
            for parameter, step in zip(self.parameters, self._count.unbind(), strict=True)
        }
        states = self.state.values()
        self._steps, self._first, self._second = ([state[key] for state in states] for key in _STATE)

    def zero_grad(self) -> None:
        """Forget the gradients: the next backward pass then hands its own over, where it would add to zeros."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """θ ← θ − η m̂ / (√v̂ + 10⁻⁸) with m̂ and v̂ the bias-corrected means of the gradient and its square.

        Args:
            learning_rate: η; in a CUDA graph a tensor on the device, since a graph repeats its constants.
        """
        self._count += 1
        torch._fused_adam_(
            self.parameters,
            [parameter.grad for parameter in self.parameters],
            self._first,
            self._second,
            [],
            self._steps,
            lr=learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a later step depends on, the weights too."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self._tensors().items()}

    @torch.no_grad()
    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take up what `arrays` gave."""
        for name, tensor in self._tensors().items():
            # A number comes back from a file as an array of one.
            tensor.copy_(torch.from_numpy(np.asarray(arrays[name])).reshape(tensor.shape))

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {}
        for number, (parameter, state) in enumerate(self.state.items()):
            tensors[f"parameter.{number}"] = parameter
            tensors |= {f"{key}.{number}": state[key] for key in _STATE}
        return tensors


_STATE = ("step", "exp_avg", "exp_avg_sq")
