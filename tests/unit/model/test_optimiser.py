"""Adam on one vector is Adam."""

import numpy as np
import torch
from torch import nn

from aggregated_posterior.model.optimiser import FlatAdam


def module() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, generator=generator)
    return made


def loss(made: nn.Module) -> torch.Tensor:
    x = torch.arange(12, dtype=torch.float64).reshape(4, 3)
    return (made(x) - 1).square().sum()


def test_it_takes_the_steps_of_pytorchs_own():
    ours, theirs = module(), module()
    flat = FlatAdam(ours)
    reference = torch.optim.Adam(theirs.parameters())
    for step in range(20):
        learning_rate = 0.1 / (step + 1)
        flat.gradient.zero_()
        loss(ours).backward()
        flat.step(learning_rate)
        reference.zero_grad()
        loss(theirs).backward()
        reference.param_groups[0]["lr"] = learning_rate
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_its_state_is_all_that_a_later_step_depends_on():
    first = module()
    flat = FlatAdam(first)
    for step in range(6):
        if step == 3:
            state = {name: np.array(array) for name, array in flat.state().items()}
        flat.gradient.zero_()
        loss(first).backward()
        flat.step(0.1)
    second = module()
    resumed = FlatAdam(second)
    resumed.restore(state)
    for _ in range(3):
        resumed.gradient.zero_()
        loss(second).backward()
        resumed.step(0.1)
    assert torch.equal(flat.weights, resumed.weights)
    assert torch.equal(first[2].bias, second[2].bias)
