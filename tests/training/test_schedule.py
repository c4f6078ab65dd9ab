"""The learning rate against the authors' published logs and torch's own scheduler."""

import csv

import pytest
import torch

from safmn.paper import NUMBERS
from safmn.training.schedule import learning_rate


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
