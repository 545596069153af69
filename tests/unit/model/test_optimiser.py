"""Our Adam is PyTorch's."""

import numpy as np
import torch
from torch import nn

from aggregated_posterior.model.optimiser import Adam


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
    adam = Adam(ours.parameters())
    reference = torch.optim.Adam(theirs.parameters())
    for step in range(20):
        learning_rate = 0.1 / (step + 1)
        adam.zero_grad()
        loss(ours).backward()
        adam.step(learning_rate)
        reference.zero_grad()
        loss(theirs).backward()
        reference.param_groups[0]["lr"] = learning_rate
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        for key, value in reference.state[b].items():
            torch.testing.assert_close(adam.state[a][key], value, rtol=1e-10, atol=1e-12, check_dtype=False)


def test_its_state_is_all_that_a_later_step_depends_on():
    first = module()
    adam = Adam(first.parameters())
    for step in range(6):
        if step == 3:
            state = {name: np.array(array) for name, array in adam.arrays().items()}
        adam.zero_grad()
        loss(first).backward()
        adam.step(0.1)
    second = module()
    resumed = Adam(second.parameters())
    resumed.restore(state)
    for _ in range(3):
        resumed.zero_grad()
        loss(second).backward()
        resumed.step(0.1)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
