"""Re-gauging: shift and scale every latent dimension of a living model so that E z = 0 and E z² = 1 under Q(z).

Let the heads of an encoder, μ = w h + b and ln s = v h + c, and the layer that takes the code, a = W z + d, be affine
with bias. For z' = (z − m) / √V, with m and V the mean and the variance of z under Q(z),

    w' = w / √V        b' = (b − m) / √V        c' = c − ln V        W' = W √V (column by column)        d' = d + W m

leave every reconstruction as it is, for any likelihood, while KL(q(z | x) ‖ N(0, 1)) falls on average by
½ (m² + V − 1 − ln V) ≥ 0 per dimension. It may be done to a model that is trained already, or between two epochs.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..storage import DataError
from .folding import Layer, as_numbers, fold_into, input_axis, latent_dim_of

ADAM = ("keep", "rescale", "reset")
# A variance under Q(z) that is not above this has vanished: there is no scale to bring to 1.
SMALLEST_VARIANCE = 1e-6


class Optimiser(Protocol):
    """`torch.optim.Adam`, or `optimiser.Adam`: for every parameter `step`, `exp_avg` and `exp_avg_sq`.

    Before the first step, and in other optimisers, these may be absent.
    """

    state: dict[Tensor, dict[str, Tensor]]


@torch.no_grad()
def regauge(
    head_mean: nn.Linear | nn.Conv2d,
    head_log_variance: nn.Linear | nn.Conv2d,
    first_decoder_layer: Layer,
    mean: Any,
    variance: Any,
    optimiser: Optimiser | None = None,
    adam: str = "keep",
) -> None:
    """Change three layers in place so that Q(z) has mean 0 and variance 1, and no reconstruction moves.

    Convolutions have one latent dimension per channel; its mean and variance are taken over images and places.

    Args:
        head_mean: The layer that gives μ.
        head_log_variance: The layer that gives ln s; `head_mean` again if one layer gives both, means first.
        first_decoder_layer: The layer that takes z, and the only one.
        mean: E z = E μ under Q(z), (d,): a tensor or an array.
        variance: V = Var(μ) + E s under Q(z), (d,). A dimension whose variance is not above 10⁻⁶ is left as it is.
        optimiser: The Adam that trains the model, if training goes on.
        adam: What becomes of its running means for the changed weights. `keep` leaves them; `rescale` multiplies them
            by what the gradient is multiplied by (√V for the head of the mean, 1/√V for the decoder), or its square;
            `reset` starts them anew. Where there are none, as before the first step, there is nothing to do.

    Raises:
        DataError: Layers that are not affine with bias, or a decoder that pads z with zeros, which no shift leaves as
            they are; mean or variance that are not finite or not d numbers; an unknown word for `adam`; what
            `fold_into` refuses. Nothing has been changed then.
    """
    d = latent_dim_of(head_mean, head_log_variance)
    mean, variance = as_numbers("mean", mean), as_numbers("variance", variance)
    for name, value in (("mean", mean), ("variance", variance)):
        if value.shape != (d,) or not value.isfinite().all():
            raise DataError(f"re-gauging: {name} must be {d} finite numbers, one for each latent dimension")
    if adam not in ADAM:
        raise DataError(f"re-gauging: adam={adam!r} is unknown; choose {', '.join(ADAM)}")
    alive = variance > SMALLEST_VARIANCE
    # In float64 until they meet the weights: 1/√V and √V should be each other's inverse.
    deviation = torch.where(alive, variance, 1).double().sqrt()
    fold_into(head_mean, head_log_variance, first_decoder_layer, torch.where(alive, mean, 0), 1 / deviation)
    if optimiser is None or adam == "keep":
        return
    if adam == "rescale":
        decoder = first_decoder_layer.weight
        # One layer for both heads: its second half, the log-variances, has moved by a constant.
        of_head = torch.cat([deviation, torch.ones(len(head_mean.bias) - len(deviation)).to(deviation)])
        # What multiplies a weight divides its gradient.
        factors = {head_mean.weight: (0, of_head), head_mean.bias: (0, of_head)}
        factors[decoder] = (input_axis(first_decoder_layer), 1 / deviation)
        for parameter, (axis, factor) in factors.items():
            # Not [parameter]: torch's optimisers would make an entry.
            state = optimiser.state.get(parameter, {})
            # The largest mean square is that of amsgrad.
            for key, by in (("exp_avg", factor), ("exp_avg_sq", factor.square()), ("max_exp_avg_sq", factor.square())):
                if key in state:
                    state[key] *= _along(axis, by, parameter)
    else:
        changed = [*head_mean.parameters(), head_log_variance.bias, *first_decoder_layer.parameters()]
        for parameter in changed:
            for value in optimiser.state.get(parameter, {}).values():
                if isinstance(value, Tensor):
                    value.zero_()


def _along(axis: int, factor: Tensor, parameter: Tensor) -> Tensor:
    """`factor` (d,) in the parameter's type and on its device, shaped to multiply along one of its axes."""
    shape = [1] * parameter.dim()
    shape[axis] = len(factor)
    return factor.to(parameter).reshape(shape)
