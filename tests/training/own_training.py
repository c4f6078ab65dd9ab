"""Losses and optimisers as a user may write them: sound ones, and one for each mistake."""

import math

import torch
from torch import nn
from torch.optim import Optimizer


class Charbonnier(nn.Module):
    """One scalar."""

    def forward(self, sr, hr):
        return ((sr - hr).square() + 1e-6).sqrt().mean()


class TwoTerms:
    """Named scalars, of which one is negative; no module."""

    def __call__(self, sr, hr):
        return {"pixel": (sr - hr).abs().mean(), "similarity": -1 / (1 + (sr - hr).square().mean())}


class Moody(nn.Module):
    """What it gives depends on its calls so far, and on chance."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.table = nn.Parameter(torch.rand(3))

    def forward(self, sr, hr):
        self.calls += 1
        weights = self.table[:, None, None] + 0.1 * self.calls + 0.1 * torch.rand(())
        return {"weighted": ((sr - hr).abs() * weights).mean()}


class Single(Charbonnier):
    """Wants float32, as it is promised."""

    def forward(self, sr, hr):
        assert sr.dtype == hr.dtype == torch.float32
        assert sr.shape == hr.shape
        assert hr.min() >= 0
        assert hr.max() <= 1
        return super().forward(sr, hr)


class OneChannel(Charbonnier):
    """For networks of Y."""

    channels = 1

    def forward(self, sr, hr):
        assert sr.shape[1] == hr.shape[1] == self.channels
        return super().forward(sr, hr)


class ThreeChannels(OneChannel):
    """For networks of RGB."""

    channels = 3


class Anything(nn.Module):
    """A network."""

    def __init__(self, scale):
        super().__init__()


class LooksAtValues(nn.Module):
    """Cannot run without data."""

    def forward(self, sr, hr):
        difference = (sr - hr).abs().mean()
        return difference * (2 if difference.item() > 0.1 else 1)


class SignMomentum(Optimizer):
    """Momentum, of which the sign counts; every other step is twice as long. The count is in its group."""

    def __init__(self, params, lr, beta=0.9, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay, "steps": 0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["steps"] += 1
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                state["mean"].lerp_(parameter.grad, 1 - group["beta"])
                length = group["lr"] * (1 + group["steps"] % 2)
                parameter.mul_(1 - length * group["weight_decay"]).sub_(length * state["mean"].sign())


# --- mistakes ---


class NotANumber(Charbonnier):
    def forward(self, sr, hr):
        return super().forward(sr, hr) * math.nan


class Map(nn.Module):
    def forward(self, sr, hr):
        return (sr - hr).abs()


class Detached(Charbonnier):
    def forward(self, sr, hr):
        return super().forward(sr.detach(), hr)


class Flat(Charbonnier):
    def forward(self, sr, hr):
        return super().forward(sr.round() + 0 * sr, hr)


class Number(Charbonnier):
    def forward(self, sr, hr):
        return float(super().forward(sr, hr))


class Nothing(Charbonnier):
    def forward(self, sr, hr):
        return {}


class NameTaken(Charbonnier):
    def forward(self, sr, hr):
        return {"learning_rate": super().forward(sr, hr)}


class NeedsArguments(Charbonnier):
    def __init__(self, eps):
        super().__init__()


class Raises(nn.Module):
    def forward(self, sr, hr):
        raise RuntimeError("the sizes do not match\nand more")


class Forgetful(Charbonnier):
    calls = 0

    def forward(self, sr, hr):
        self.calls += 1
        return super().forward(sr, hr) * self.calls


class NoCall:
    pass


class NoOptimiser:
    def __init__(self, params, lr):
        pass


class Idle(SignMomentum):
    def step(self):
        pass


class ForgetfulOptimiser(SignMomentum):
    count = 0

    def step(self):
        self.count += 1
        for group in self.param_groups:
            group["steps"] = self.count
        super().step()


class Secret:
    pass


class Unsaveable(SignMomentum):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.param_groups[0]["secret"] = Secret()


def a_function(sr, hr):
    return (sr - hr).abs().mean()
