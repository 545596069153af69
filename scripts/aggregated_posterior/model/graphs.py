"""A step of training as one CUDA graph: a small model's kernels last less than it takes to launch them one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

Step = TypeVar("Step", bound=Callable[..., NamedTuple])

# Calls that run as written before one is captured: libraries allocate and choose their kernels in the first ones.
WARM_UP = 3


def on_device(step: Step, device: str) -> Step:
    """`step` itself on the CPU; on `cuda`, `step` captured as a graph."""
    return CapturedStep(step) if device == "cuda" else step


class CapturedStep:
    """A function of tensors and numbers whose kernels are recorded once and launched all at once from then on.

    What the function changes in place (weights, Adam's means) must stay at its place. A number becomes a tensor on the
    device, since a graph repeats its constants. Arguments of another shape, as an epoch's last minibatch has, are
    another graph.

    Args:
        step: The function; it may not wait for the device. Returns a named tuple of tensors.
    """

    def __init__(self, step: Callable[..., NamedTuple]) -> None:
        self._step = step
        self._calls: dict[tuple, int] = {}
        self._graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, list[Tensor], NamedTuple]] = {}
        self._stream = torch.cuda.Stream()

    def __call__(self, *arguments: Tensor | float) -> NamedTuple:
        """What `step` returns for these arguments, in tensors of the caller's own."""
        shapes = tuple(argument.shape if isinstance(argument, Tensor) else () for argument in arguments)
        if shapes not in self._graphs:
            fixed = [
                argument.clone() if isinstance(argument, Tensor) else torch.tensor(argument, device="cuda")
                for argument in arguments
            ]
            self._calls[shapes] = self._calls.get(shapes, 0) + 1
            if self._calls[shapes] <= WARM_UP:
                return self._as_written(fixed)
            graph = torch.cuda.CUDAGraph()
            # Capturing runs nothing: the step is done by the first replay.
            with torch.cuda.graph(graph, stream=self._stream):
                result = self._step(*fixed)
            self._graphs[shapes] = graph, fixed, result
        graph, fixed, result = self._graphs[shapes]
        for place, argument in zip(fixed, arguments, strict=True):
            place.copy_(argument) if isinstance(argument, Tensor) else place.fill_(argument)
        graph.replay()
        return type(result)(*(value.detach().clone() for value in result))

    def _as_written(self, arguments: list[Tensor]) -> NamedTuple:
        """One call outside of any graph, on the stream that will capture: PyTorch ties gradients to streams."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = self._step(*arguments)
        torch.cuda.current_stream().wait_stream(self._stream)
        return result
