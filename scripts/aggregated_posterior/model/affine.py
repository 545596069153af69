"""An affine layer on oneDNN's matrix product, where that is the fast one.

On a CPU, `torch.nn.Linear` multiplies by MKL, whose rate depends on the processor's vendor. oneDNN's depends on the
instruction set alone: it is 2.4 times that of MKL in its portable mode (MKL_CBWR), and twice MKL's own on an AMD
processor with AVX-512. On an Intel processor without pins MKL is the faster one, by a tenth, and is left to work.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

# Multiplications from which a product is large.
LARGE = 2**23


def _mkl_is_faster() -> bool:
    cpu = Path("/proc/cpuinfo")
    return "MKL_CBWR" not in os.environ and cpu.exists() and "GenuineIntel" in cpu.read_text()


ONEDNN = torch.backends.mkldnn.is_available() and not _mkl_is_faster()


class Affine(nn.Linear):
    """x Wᵀ + b, followed by max(0, ·) if `relu`: `torch.nn.Linear` with another product below it.

    Args:
        inputs, outputs: Numbers of values.
        relu: Whether negative outputs become zero; oneDNN does it while it writes the product.
    """

    def __init__(self, inputs: int, outputs: int, relu: bool = False) -> None:
        super().__init__(inputs, outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if onednn_takes(x, self.weight):
            return _Affine.apply(x, self.weight, self.bias, self.relu)
        y = functional.linear(x, self.weight, self.bias)
        return y.relu_() if self.relu else y


def onednn_takes(x: Tensor, weight: Tensor) -> bool:
    """Whether x Wᵀ goes through oneDNN: large matrices of float32 on a CPU, outside of `torch.func`.

    A call of oneDNN takes 20 µs more than one of MKL, and Python in the graph more than PyTorch's own.
    """
    return (
        ONEDNN
        and x.dim() == 2
        and x.shape[0] * weight.numel() >= LARGE
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not inside_torch_func()
    )


def inside_torch_func() -> bool:
    """Whether `torch.func` (vmap, grad) is at work, whose tensors only PyTorch's own operators understand."""
    # What torch.autograd.Function itself asks.
    return torch._C._are_functorch_transforms_active()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """activation(x Wᵀ + b) by oneDNN: the operator that PyTorch's compiler emits for CPUs."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "")


class _Affine(torch.autograd.Function):
    """The layer and its gradient: with g = ∂loss/∂y, zero where a ReLU was, ∂x = g W, ∂W = gᵀ x and ∂b = Σ g."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        y = _product(x, weight, bias, "relu" if relu else "none")
        ctx.relu = relu
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, y = ctx.saved_tensors
        if ctx.relu:
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        gradient_x = _product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        return gradient_x, _product(gradient.t(), x.t()), gradient.sum(0), None
