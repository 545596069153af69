"""Put a shift and a scale of the latent space into a model's own layers, so that no reconstruction changes.

With z' = (z − t)·α the encoder's heads give μ' = (μ − t)·α and ln s' = ln s + 2 ln α, and a layer that consumes z gives

    W z + b = (W/α) z' + (b + W t),

so heads and decoder inputs that are affine with bias absorb any t and any α > 0 (see `posterior.gauge`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..storage import DataError

Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


@torch.no_grad()
def fold_into(
    head_mean: nn.Linear | nn.Conv2d,
    head_log_variance: nn.Linear | nn.Conv2d,
    decoder_inputs: Layer | Sequence[Layer],
    shift: Any,
    scale: Any,
) -> None:
    """Change the layers in place: codes become (z − shift)·scale and the decoder undoes it.

    Args:
        head_mean, head_log_variance: The layers that put out μ and ln s, `Linear` or `Conv2d` with bias. One layer that
            puts out both, means first (as for `chunk(2, dim=1)`), is given twice.
        decoder_inputs: Every layer that consumes z: `Linear`, `Conv2d` or `ConvTranspose2d`. A layer that is given
            more than once, because it is used at several places, is changed once.
        shift: t, (d,) numbers or one; what `canonical` wrote. One entry per channel for convolutions.
        scale: α > 0, (d,) numbers or one.

    Raises:
        DataError: A layer of another kind or size, one without the bias that it would need, layers that share their
            weights, a shift or scale of another size, or a shift into a convolution that pads with zeros, which are
            not shifted with z. Nothing has been changed then.
    """
    given = [decoder_inputs] if isinstance(decoder_inputs, nn.Module) else list(decoder_inputs)
    layers = list({id(layer): layer for layer in given}.values())
    both = head_mean is head_log_variance
    d = latent_dim_of(head_mean, head_log_variance)
    t, alpha = (_numbers(name, value, d) for name, value in (("shift", shift), ("scale", scale)))
    if not (torch.isfinite(t).all() and torch.isfinite(alpha).all() and (alpha > 0).all()):
        raise DataError("shift must be finite, and scale finite and positive")
    _check(head_mean, head_log_variance, layers, d, shifted=bool((t != 0).any()), both=both)
    _scale_outputs(head_mean, slice(0, d), t, alpha)
    # The log-variance moves by a constant: its weights stay.
    _add(head_log_variance.bias, 2 * alpha.log(), slice(d, 2 * d) if both else slice(0, d))
    for layer in layers:
        weight = layer.weight.double()
        if not isinstance(layer, nn.ConvTranspose2d):
            weight = weight.transpose(0, 1)  # (in, out, …), as a transposed convolution has it
        column = (-1,) + (1,) * (weight.dim() - 1)
        if (t != 0).any():
            inputs_and_kernel = [i for i in range(weight.dim()) if i != 1]
            _add(layer.bias, (weight * t.to(weight.device).view(column)).sum(inputs_and_kernel))
        weight = weight / alpha.to(weight.device).view(column)
        layer.weight.copy_(weight if isinstance(layer, nn.ConvTranspose2d) else weight.transpose(0, 1))


def latent_dim_of(head_mean: nn.Module, head_log_variance: nn.Module) -> int:
    """Number of latent dimensions that two heads put out, or one layer given twice.

    Raises:
        DataError: `head_mean` is neither `Linear` nor `Conv2d`.
    """
    return _outputs(head_mean, "head_mean") // (2 if head_mean is head_log_variance else 1)


def _numbers(name: str, value: Any, d: int) -> Tensor:
    numbers = torch.as_tensor(value, dtype=torch.float64).cpu()
    if numbers.shape not in ((), (1,), (d,)):
        raise DataError(f"{name} has shape {tuple(numbers.shape)}: expected one number or {d}, as the heads put out")
    return numbers.expand(d)


def _scale_outputs(layer: nn.Module, part: slice, t: Tensor, alpha: Tensor) -> None:
    weight, bias = layer.weight[part], layer.bias[part]
    t, alpha = t.to(weight.device), alpha.to(weight.device)
    weight.copy_(weight.double() * alpha.view((-1,) + (1,) * (weight.dim() - 1)))
    bias.copy_((bias.double() - t) * alpha)


def _add(bias: Tensor, amount: Tensor, part: slice = slice(None)) -> None:
    bias[part] = (bias[part].double() + amount.to(bias.device)).to(bias.dtype)


def _outputs(layer: nn.Module, name: str) -> int:
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise DataError(f"{name} is {type(layer).__name__}: only Linear and Conv2d can be folded into")
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _check(
    head_mean: nn.Module, head_log_variance: nn.Module, layers: list[Layer], d: int, shifted: bool, both: bool
) -> None:
    for name, head in (("head_mean", head_mean), ("head_log_variance", head_log_variance)):
        if _outputs(head, name) != (2 * d if both else d):
            raise DataError(f"{name} puts out {_outputs(head, name)} numbers where the other puts out {d}")
        if head.bias is None:
            raise DataError(f"{name} has no bias, so it cannot take up shift and scale; build it with bias=True")
    for layer in layers:
        if not isinstance(layer, Layer):
            raise DataError(f"a decoder input is {type(layer).__name__}: give Linear, Conv2d or ConvTranspose2d layers")
        inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        if inputs != d:
            raise DataError(f"a decoder input takes {inputs} numbers, the heads put out {d}")
        if getattr(layer, "groups", 1) != 1:
            raise DataError("a decoder input is a grouped convolution, which is not supported")
        if shifted:
            if layer.bias is None:
                raise DataError("a decoder input has no bias, so it cannot take up a shift; fold the scale only")
            if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and _pads(layer):
                raise DataError(
                    "a decoder input pads z with zeros, which do not move; set padding_mode='replicate', or shift = 0"
                )
            if isinstance(layer, nn.ConvTranspose2d) and not _one_by_one(layer):
                raise DataError("a transposed convolution cannot take up a shift at its borders; fold the scale only")
    if len({id(layer.weight) for layer in layers}) < len(layers):
        raise DataError("two decoder inputs share their weights, which would be changed twice; untie them first")


def _pads(layer: nn.Conv2d) -> bool:
    if isinstance(layer.padding, str):
        return layer.padding == "same" and any(size > 1 for size in layer.kernel_size)
    return any(layer.padding)


def _one_by_one(layer: nn.ConvTranspose2d) -> bool:
    ones = (1, 1)
    return layer.kernel_size == layer.stride == ones and not any((*layer.padding, *layer.output_padding))
