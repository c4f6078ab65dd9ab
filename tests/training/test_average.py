"""The averaged weights against a plain loop over tensors, and what becomes of running statistics."""

import pytest
import torch
from torch import nn

from safmn.training.average import Average


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).train()


def wander(module: nn.Module, steps: int):
    """Changes the parameters and, by a forward pass, the running statistics; yields after each step."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
            module(torch.randn(2, 3, 6, 6, generator=generator))
        yield


@pytest.mark.parametrize("decay", [0.999, 0.9, 0.3, 0.0])
def test_same_as_a_plain_loop(decay):
    followed = network()
    average = Average(followed, decay)
    expected = {name: value.detach().clone().double() for name, value in followed.named_parameters()}
    for _ in wander(followed, 30):
        average.update()
        for name, value in followed.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach().double()
    for name, value in average.network.named_parameters():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
        assert not value.requires_grad


def test_statistics_are_tracked():
    """Copied, not averaged: they are averages already."""
    followed = network()
    average = Average(followed, 0.999, buffers="track")
    for _ in wander(followed, 5):
        average.update()
    assert followed[1].num_batches_tracked == 5
    for name, value in average.network.named_buffers():
        assert torch.equal(value, dict(followed.named_buffers())[name]), name


def test_statistics_are_left_at_their_start_as_in_the_reference_trainer():
    followed = network()
    average = Average(followed, 0.999, buffers="frozen")
    for _ in wander(followed, 5):
        average.update()
    assert torch.equal(average.network[1].running_mean, torch.zeros(4))
    assert torch.equal(average.network[1].running_var, torch.ones(4))
    assert average.network[1].num_batches_tracked == 0
    assert not torch.equal(followed[1].running_mean, torch.zeros(4))


def test_starts_at_the_weights_and_stays_in_eval_mode():
    followed = network()
    average = Average(followed, 0.999)
    for one, other in zip(average.network.parameters(), followed.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.data_ptr() != other.data_ptr()
    assert not average.network.training
    assert followed.training
