"""Put a shift and a scale of the latent space into a model's own layers, so that no reconstruction changes.

With z' = (z − t)·α the encoder's heads give μ' = (μ − t)·α and ln s' = ln s + 2 ln α, and a layer that consumes z gives

    W z + b = (W/α) z' + (b + W t),

so heads and decoder inputs that are affine with bias absorb any t and any α > 0 (see `posterior.gauge`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
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
        decoder_inputs: Every layer that consumes z, one at least: `Linear`, `Conv2d` or `ConvTranspose2d`. A layer that
            is given more than once, because it is used at several places, is changed once.
        shift: t, (d,) numbers or one; what `canonical` wrote. One entry per channel for convolutions.
        scale: α > 0, (d,) numbers or one.

    Raises:
        DataError: No decoder input; a layer of another kind or size, or one without the bias that it would need;
            weights or biases that are computed from something else (`weight_norm`, `spectral_norm`, pruning) or share
            their memory; a shift or scale of another size, or one that the layers' type cannot hold; a shift into a
            convolution that pads with zeros, which are not shifted with z. Nothing has been changed then.
    """
    given = [decoder_inputs] if isinstance(decoder_inputs, nn.Module) else list(decoder_inputs)
    inputs: dict[int, tuple[str, Layer]] = {}
    for number, layer in enumerate(given, 1):
        inputs.setdefault(id(layer), (f"decoder input {number}", layer))
    layers = list(inputs.values())
    both = head_mean is head_log_variance
    d = latent_dim_of(head_mean, head_log_variance)
    t, alpha = (_numbers(name, value, d) for name, value in (("shift", shift), ("scale", scale)))
    if not (torch.isfinite(t).all() and torch.isfinite(alpha).all() and (alpha > 0).all()):
        raise DataError("shift must be finite, and scale finite and positive")
    _check(head_mean, head_log_variance, layers, d, shifted=bool((t != 0).any()), both=both)
    changes = [
        (name, old, new.to(old.dtype)) for name, old, new in _changes(head_mean, head_log_variance, layers, t, alpha)
    ]
    for name, _, new in changes:
        if not new.isfinite().all():
            raise DataError(
                f"{name} would not be finite in {new.dtype}; give smaller numbers, or layers of a wider type"
            )
    for _, old, new in changes:
        old.copy_(new)


def _changes(
    head_mean: nn.Module, head_log_variance: nn.Module, layers: list[tuple[str, Layer]], t: Tensor, alpha: Tensor
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Every part of a weight or bias that changes: what it is called, what it is and, in float64, what it becomes."""
    d = len(t)
    weight, bias = head_mean.weight[:d], head_mean.bias[:d]
    t_here, alpha_here = t.to(weight.device), alpha.to(weight.device)
    yield "the weight of head_mean", weight, weight.double() * alpha_here.view((-1,) + (1,) * (weight.dim() - 1))
    yield "the bias of head_mean", bias, (bias.double() - t_here) * alpha_here
    # The log-variance moves by a constant: its weights stay.
    bias = head_log_variance.bias[-d:]
    yield "the bias of head_log_variance", bias, bias.double() + (2 * alpha.log()).to(bias.device)
    for name, layer in layers:
        weight = layer.weight.double()
        axis = input_axis(layer)
        weight = weight.transpose(0, axis)  # (in, out, …), as a transposed convolution has it
        column = (-1,) + (1,) * (weight.dim() - 1)
        if (t != 0).any():
            inputs_and_kernel = [i for i in range(weight.dim()) if i != 1]
            moved = (weight * t.to(weight.device).view(column)).sum(inputs_and_kernel)
            yield f"the bias of {name}", layer.bias, layer.bias.double() + moved.to(layer.bias.device)
        weight = weight / alpha.to(weight.device).view(column)
        yield f"the weight of {name}", layer.weight, weight.transpose(0, axis)


def input_axis(layer: nn.Module) -> int:
    """The axis of a layer's weight that its inputs lie along: (out, in, …), but (in, out, …) if transposed."""
    return 0 if isinstance(layer, nn.ConvTranspose2d) else 1


def as_numbers(name: str, value: Any) -> Tensor:
    """A tensor as it is; anything else, such as an array or a list, as one of float64.

    Raises:
        DataError: What is no array of numbers.
    """
    if isinstance(value, Tensor):
        return value
    try:
        # A copy: torch warns of arrays that may not be written, and refuses strides below zero.
        return torch.from_numpy(np.array(value, dtype=np.float64))
    except (TypeError, ValueError):
        raise DataError(f"{name} is no array of numbers; give a tensor or an array") from None


def latent_dim_of(head_mean: nn.Module, head_log_variance: nn.Module) -> int:
    """Number of latent dimensions that two heads put out, or one layer given twice.

    Raises:
        DataError: `head_mean` is neither `Linear` nor `Conv2d`.
    """
    return _outputs(head_mean, "head_mean") // (2 if head_mean is head_log_variance else 1)


def _numbers(name: str, value: Any, d: int) -> Tensor:
    numbers = as_numbers(name, value).cpu().double()
    if numbers.shape not in ((), (1,), (d,)):
        raise DataError(f"{name} has shape {tuple(numbers.shape)}: expected one number or {d}, as the heads put out")
    return numbers.expand(d)


def _outputs(layer: nn.Module, name: str) -> int:
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise DataError(f"{name} is {type(layer).__name__}: only Linear and Conv2d can be folded into")
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _check(
    head_mean: nn.Module,
    head_log_variance: nn.Module,
    layers: list[tuple[str, Layer]],
    d: int,
    shifted: bool,
    both: bool,
) -> None:
    heads = [("head_mean", head_mean), ("head_log_variance", head_log_variance)]
    for name, head in heads:
        if _outputs(head, name) != (2 * d if both else d):
            raise DataError(f"{name} puts out {_outputs(head, name)} numbers where the other puts out {d}")
        _check_own(name, head)
        if head.bias is None:
            raise DataError(f"{name} has no bias, so it cannot take up shift and scale; build it with bias=True")
    if not layers:
        raise DataError(
            "no decoder input is given, so nothing would undo shift and scale; give every layer that takes z"
        )
    for name, layer in layers:
        if not isinstance(layer, Layer):
            raise DataError(f"a decoder input is {type(layer).__name__}: give Linear, Conv2d or ConvTranspose2d layers")
        _check_own(name, layer)
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
    _check_apart([*(heads[:1] if both else heads), *layers])


def _check_own(name: str, layer: nn.Module) -> None:
    """Refuse a weight or bias that is not the layer's own parameter: what is written into it would not stay."""
    own = layer._parameters
    for part in ("weight", "bias"):
        # Whether it is there is asked first: to read a weight that is computed may change the model (spectral_norm).
        if part not in own or own[part] is not getattr(layer, part):
            raise DataError(
                f"the {part} of {name} is computed from others; make it a parameter first (in torch.nn.utils "
                "parametrize.remove_parametrizations, remove_weight_norm, remove_spectral_norm, prune.remove)"
            )
        if own[part] is not None and not own[part].is_floating_point():
            raise DataError(f"the {part} of {name} is of type {own[part].dtype}; fold before it is quantised")


def _check_apart(layers: list[tuple[str, nn.Module]]) -> None:
    """Refuse weights and biases that share memory: one would change with the other, or twice.

    Parts of one vector that lie side by side, as of flattened parameters, share none.
    """
    places = []
    for name, layer in layers:
        for part, parameter in (("weight", layer.weight), ("bias", layer.bias)):
            if parameter is None or not parameter.numel():
                continue
            reach = sum((n - 1) * stride for n, stride in zip(parameter.shape, parameter.stride(), strict=True)) + 1
            if reach < parameter.numel():
                raise DataError(
                    f"the {part} of {name} repeats numbers of its own (expand); give it a clone() of itself"
                )
            start = parameter.data_ptr()
            places.append((f"the {part} of {name}", start, start + reach * parameter.element_size()))
    for (first, start, end), (second, other_start, other_end) in combinations(places, 2):
        if start < other_end and other_start < end:
            raise DataError(
                f"{first} and {second} share memory, so that one would change with the other; untie them first: "
                "nn.Parameter(weight.detach().clone())"
            )


def _pads(layer: nn.Conv2d) -> bool:
    if isinstance(layer.padding, str):
        return layer.padding == "same" and any(size > 1 for size in layer.kernel_size)
    return any(layer.padding)


def _one_by_one(layer: nn.ConvTranspose2d) -> bool:
    ones = (1, 1)
    return layer.kernel_size == layer.stride == ones and not any((*layer.padding, *layer.output_padding))
