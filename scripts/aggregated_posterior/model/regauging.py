"""Re-gauging: shift and scale every latent dimension of a living model so that E z = 0 and E z² = 1 under Q(z).

Let the heads of an encoder, μ = w h + b and ln s = v h + c, and the layer that takes the code, a = W z + d, be affine
with bias. For z' = (z − m) / √V, with m and V the mean and the variance of z under Q(z),

    w' = w / √V        b' = (b − m) / √V        c' = c − ln V        W' = W √V (column by column)        d' = d + W m

leave every reconstruction as it is, for any likelihood, while KL(q(z | x) ‖ N(0, 1)) falls on average by
½ (m² + V − 1 − ln V) ≥ 0 per dimension. It may be done to a model that is trained already, or between two epochs.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ..storage import DataError

ADAM = ("keep", "rescale", "reset")
# A variance under Q(z) that is not above this has vanished: there is no scale to bring to 1.
SMALLEST_VARIANCE = 1e-6


class Optimiser(Protocol):
    """`torch.optim.Adam`, or `optimiser.Adam`: for every parameter `step`, `exp_avg` and `exp_avg_sq`."""

    state: dict[Tensor, dict[str, Tensor]]


@torch.no_grad()
def regauge(
    head_mean: nn.Linear | nn.Conv2d,
    head_log_variance: nn.Linear | nn.Conv2d,
    first_decoder_layer: nn.Linear | nn.Conv2d,
    mean: Tensor,
    variance: Tensor,
    optimiser: Optimiser | None = None,
    adam: str = "keep",
) -> None:
    """Change three layers in place so that Q(z) has mean 0 and variance 1, and no reconstruction moves.

    Convolutions have one latent dimension per channel; its mean and variance are taken over images and places.

    Args:
        head_mean: The layer that gives μ.
        head_log_variance: The layer that gives ln s.
        first_decoder_layer: The layer that takes z, and the only one.
        mean: E z = E μ under Q(z), (d,).
        variance: V = Var(μ) + E s under Q(z), (d,). A dimension whose variance is not above 10⁻⁶ is left as it is.
        optimiser: The Adam that trains the model, if training goes on.
        adam: What becomes of its running means for the changed weights. `keep` leaves them; `rescale` multiplies them
            by what the gradient is multiplied by (√V for the head of the mean, 1/√V for the decoder), or its square;
            `reset` starts them anew.

    Raises:
        DataError: Layers that are not affine with bias, or a decoder that pads z with zeros, which no shift leaves as
            they are; mean or variance that are not finite or not d numbers; an unknown word for `adam`.
    """
    _check(head_mean, head_log_variance, first_decoder_layer)
    d = len(head_mean.bias)
    for name, value in (("mean", mean), ("variance", variance)):
        if value.shape != (d,) or not value.isfinite().all():
            raise DataError(f"re-gauging: {name} must be {d} finite numbers, one for each latent dimension")
    if adam not in ADAM:
        raise DataError(f"re-gauging: adam={adam!r} is unknown; choose {', '.join(ADAM)}")
    alive = variance > SMALLEST_VARIANCE
    # In float64 until they meet the weights: 1/√V and √V should be each other's inverse.
    mean = torch.where(alive, mean, 0).double()
    deviation = torch.where(alive, variance, 1).double().sqrt()
    if isinstance(first_decoder_layer, nn.Conv2d) and _pads_with_zeros(first_decoder_layer) and (mean != 0).any():
        raise DataError(
            "re-gauging: the decoder's first layer pads z with zeros, which a shift does not leave as they are; "
            "give it padding_mode='replicate', or pass mean = 0 to change the scale only"
        )
    decoder = first_decoder_layer.weight
    # A convolution's weights are (outputs, inputs, height, width): a constant input meets the sum over the last two.
    constant = decoder.double().flatten(2).sum(2) if decoder.dim() > 2 else decoder.double()
    first_decoder_layer.bias += constant @ mean
    decoder *= _along(1, deviation, decoder)
    head_mean.weight /= _along(0, deviation, head_mean.weight)
    head_mean.bias.copy_((head_mean.bias - mean) / deviation)
    head_log_variance.bias -= 2 * deviation.log()
    if optimiser is None or adam == "keep":
        return
    if adam == "rescale":
        # What multiplies a weight divides its gradient.
        factors = {head_mean.weight: (0, deviation), head_mean.bias: (0, deviation), decoder: (1, 1 / deviation)}
        for parameter, (axis, factor) in factors.items():
            state = optimiser.state[parameter]
            state["exp_avg"] *= _along(axis, factor, parameter)
            state["exp_avg_sq"] *= _along(axis, factor.square(), parameter)
    else:
        changed = [*head_mean.parameters(), head_log_variance.bias, *first_decoder_layer.parameters()]
        for parameter in changed:
            for value in optimiser.state[parameter].values():
                value.zero_()


def _along(axis: int, factor: Tensor, parameter: Tensor) -> Tensor:
    """`factor` (d,) in the parameter's type, shaped to multiply along one of its axes."""
    shape = [1] * parameter.dim()
    shape[axis] = len(factor)
    return factor.to(parameter.dtype).reshape(shape)


def _check(head_mean: nn.Module, head_log_variance: nn.Module, first_decoder_layer: nn.Module) -> None:
    layers = {
        "head of the mean": head_mean,
        "head of the log-variance": head_log_variance,
        "decoder's first layer": first_decoder_layer,
    }
    for name, layer in layers.items():
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            raise DataError(f"re-gauging: the {name} is {type(layer).__name__}; it must be Linear or Conv2d")
        if layer.bias is None:
            raise DataError(f"re-gauging: the {name} has no bias, which a shift needs; make it with bias=True")
    d = len(head_mean.bias)
    inputs = first_decoder_layer.weight.shape[1]
    if len(head_log_variance.bias) != d or inputs != d or getattr(first_decoder_layer, "groups", 1) != 1:
        raise DataError(
            f"re-gauging: the heads give {d} and {len(head_log_variance.bias)} values, the decoder's first layer takes "
            f"{inputs}; they must be the same latent dimensions, in one group"
        )


def _pads_with_zeros(layer: nn.Conv2d) -> bool:
    return layer.padding_mode == "zeros" and layer.padding not in ("valid", (0, 0))
