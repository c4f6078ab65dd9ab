"""The learning rate against the authors' published logs and torch's own scheduler."""

import csv

import pytest
import torch

from safmn.paper import NUMBERS
from safmn.training.schedule import learning_rate, rate_of


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_rate_in_the_published_log(scale):
    """All 5,000 printed rates of a run, to their last digit; one iteration earlier or later, 169 would differ."""
    with open(NUMBERS / f"training_log_x{scale}.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 5000
    for row in rows:
        rate = learning_rate(int(row["iteration"]) - 1, 500_000, 1e-3, 1e-5)
        assert f"{rate:.3e}" == row["learning_rate"], row["iteration"]


@pytest.mark.parametrize(("iterations", "highest", "lowest"), [(500, 1e-3, 1e-5), (7, 3e-4, 0.0), (1, 1e-3, 1e-3)])
def test_same_as_torch(iterations, highest, lowest):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=highest)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations, eta_min=lowest)
    for iteration in range(iterations):
        expected = optimiser.param_groups[0]["lr"]
        assert learning_rate(iteration, iterations, highest, lowest) == pytest.approx(expected, rel=1e-9, abs=1e-15)
        optimiser.step()
        scheduler.step()


TOTAL, HIGHEST, LOWEST = 40, 2e-3, 1e-5


def torchs(schedule, warm_up: int) -> list[float]:
    """The rates of torch's own schedulers, one after the other."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=HIGHEST)
    name, rates = schedule["name"], []
    if name == "multistep":  # milestones count from the start of the run
        milestones = [stone - warm_up for stone in schedule["milestones"] if stone > warm_up]
        after = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=schedule["gamma"])
        before = sum(stone <= warm_up for stone in schedule["milestones"])
    elif name == "cosine":
        after, before = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, TOTAL - warm_up, eta_min=LOWEST), 0
    else:
        after, before = torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0), 0
    rates = [HIGHEST * (iteration + 1) / warm_up for iteration in range(warm_up)]
    for _ in range(TOTAL - warm_up):
        rates.append(optimiser.param_groups[0]["lr"] * schedule.get("gamma", 1) ** before)
        optimiser.step()
        after.step()
    return rates


@pytest.mark.parametrize("warm_up", [0, 1, 7, 20])
@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "cosine"},
        {"name": "constant"},
        {"name": "multistep", "milestones": [5, 20, 39], "gamma": 0.5},
        {"name": "multistep", "milestones": [30, 100], "gamma": 0.1},
    ],
    ids=str,
)
def test_every_schedule_is_that_of_torch(schedule, warm_up):
    settings = {"iterations": TOTAL, "learning_rate": HIGHEST, "minimum_learning_rate": LOWEST}
    settings |= {"schedule": schedule, "warm_up": warm_up}
    found = [rate_of(settings, iteration) for iteration in range(TOTAL)]
    assert found == pytest.approx(torchs(schedule, warm_up), rel=1e-9)


def test_without_the_keys_it_is_the_papers():
    settings = {"iterations": 500_000, "learning_rate": 1e-3, "minimum_learning_rate": 1e-5}
    for iteration in (0, 1, 1234, 499_999):
        assert rate_of(settings, iteration) == learning_rate(iteration, 500_000, 1e-3, 1e-5)


def test_a_warm_up_longer_than_the_run_never_gets_there():
    settings = {"iterations": 10, "learning_rate": 1.0, "minimum_learning_rate": 0, "warm_up": 20}
    assert rate_of(settings, 9) == 0.5
