"""Collapse as a result: what is one and what is not, and the files that such a run leaves."""

import json
import math
import random

import pytest
import safetensors.torch
import torch

from safmn import cli
from safmn.training import collapse
from safmn.training.collapse import CollapseWatch

from .workshop import FILES, contents


def watched(losses, norms=None, watch=None, start=0):
    """The first verdict on a series of L1 losses, and the watch."""
    watch = watch or CollapseWatch()
    for index, value in enumerate(losses):
        found = watch.look(start + index + 1, [value, 0.05], 1.0 if norms is None else norms[index])
        if found is not None:
            return found, watch
    return None, watch


def decaying(count, seed=0, spread=0.3):
    """A loss as in training: falls from 0.4 to 0.04 and scatters from batch to batch."""
    generator = random.Random(seed)
    return [(0.04 + 0.36 * math.exp(-i / 300)) * generator.lognormvariate(0, spread) for i in range(count)]


# --- what is a collapse ---


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite(value):
    found, _ = watched([*decaying(500), value])
    assert found.iteration == 501
    assert found.loss is None
    assert found.gradient_norm == 1.0
    assert "loss" in found.reason


def test_gradients_that_are_not_finite():
    found, _ = watched(decaying(20), norms=[1.0] * 9 + [math.inf] + [1.0] * 10)
    assert (found.iteration, found.gradient_norm) == (10, None)
    assert found.loss == pytest.approx(decaying(20)[9] + 0.05)
    assert "gradient" in found.reason


def test_a_slow_blow_up():
    """Grows by a half percent an iteration from iteration 1000 on; found, and dated to where it left its level."""
    losses = decaying(1000) + [0.05 * 1.005**i for i in range(2000)]
    found, _ = watched(losses)
    assert 1200 < found.iteration < 1500
    assert 3 * 0.04 < found.loss < 2
    assert "3 times" in found.reason


def test_a_jump_to_another_level():
    losses = decaying(800)
    found, _ = watched(losses + [0.9] * 400)
    # The median of an even number lies between the middle two: above as soon as half of the window is.
    assert found.iteration == 800 + collapse.WINDOW // 2
    assert found.loss == pytest.approx(0.95)


def test_an_explosion_before_the_run_had_a_level():
    found, _ = watched([0.4, 1e6] + [1e9] * 300)
    assert found is not None
    assert found.iteration == collapse.RECENT


# --- what is none ---


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_noise_is_none(spread, seed):
    assert watched(decaying(5000, seed, spread))[0] is None


def test_a_spike_is_none():
    losses = decaying(2000)
    losses[1000:1030] = [50.0] * 30
    found, watch = watched(losses)
    assert found is None
    assert watch.healthy


def test_a_recovery_is_none():
    """Above its level for 150 iterations, as the median over 100 sees it: within the patience of 200."""
    losses = decaying(2000)
    losses[1000:1150] = [1.0] * 150
    found, watch = watched(losses[:1100])
    assert found is None
    assert not watch.healthy
    found, watch = watched(losses[1100:], watch=watch, start=1100)
    assert found is None
    assert watch.healthy


def test_not_healthy_as_soon_as_the_loss_is_high():
    """Weights are kept as the last healthy ones; after twenty bad iterations they no longer are."""
    _, watch = watched(decaying(1000))
    assert watch.healthy
    watched([2.0] * 20, watch=watch, start=1000)
    assert not watch.healthy


@pytest.mark.parametrize("cut", [1, 99, 950, 1075, 1149, 1249])
def test_restored_watch_comes_to_the_same_verdict(cut):
    losses = decaying(1000) + [0.9] * 400
    straight, _ = watched(losses)
    _, first = watched(losses[:cut])
    second = CollapseWatch()
    second.restore(json.loads(json.dumps(first.state())))  # plain data
    resumed, _ = watched(losses[cut:], watch=second, start=cut)
    assert resumed == straight


# --- runs that collapse ---


def finite(path) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in safetensors.torch.load_file(path).values())


def check_files(out, record):
    assert json.loads((out / "run.json").read_text()) == record
    assert record["outcome"] == "collapsed"
    for name in FILES[:3]:
        assert finite(out / name), name


def test_not_a_number_ends_the_run_as_a_result(workshop, tmp_path):
    """The layer works sixty times: iteration 61 collapses, and the best of the validations before stay.

    The same command again writes the same files.
    """
    record = workshop.train(tmp_path / "run", "explosive", iterations=200)
    check_files(tmp_path / "run", record)
    assert record["collapse"]["iteration"] == 61
    assert record["collapse"]["loss"] is None
    assert record["collapse"]["gradient_norm"] is None
    assert record["best"]["iteration"] in range(10, 70, 10)
    assert record["last"]["iteration"] == 60
    before = contents(tmp_path / "run")
    again = workshop.train(tmp_path / "run", "explosive", iterations=200)
    assert contents(tmp_path / "run") == before
    assert again["collapse"] == record["collapse"]


def test_the_command_takes_a_collapse_for_a_result(workshop, tmp_path, capsys):
    """Exit status 0: Snakemake keeps the files, and the tables mark the row."""
    study = workshop.study(tmp_path / "study.yaml", iterations=200)
    assert cli.main(workshop.arguments(tmp_path / "run", "explosive", study)) == 0
    assert "collapsed after" in capsys.readouterr().out
    check_files(tmp_path / "run", json.loads((tmp_path / "run" / "run.json").read_text()))


def test_a_high_learning_rate_ends_as_a_result(workshop, tmp_path):
    """1e3 instead of 1e-3: the loss is finite, but huge. No later weights are healthy, so the initial ones remain."""
    record = workshop.train(tmp_path / "run", iterations=400, learning_rate=1e3)
    check_files(tmp_path / "run", record)
    assert record["collapse"]["iteration"] < 20
    assert record["collapse"]["gradient_norm"] > 0
    assert record["best"] == {"iteration": 0, "validation_psnr_rgb": None}
    start = safetensors.torch.load_file(tmp_path / "run" / "best.safetensors")
    for name, value in workshop.training(tmp_path / "new").kept.step.network.state_dict().items():
        assert torch.equal(value, start[name]), name


def test_weights_that_overflow_are_found_where_they_would_be_kept(workshop, tmp_path):
    record = workshop.train(tmp_path / "run", "overflowing", iterations=40, validate_every=40)
    check_files(tmp_path / "run", record)
    assert record["collapse"]["iteration"] == 40
    assert "weights" in record["collapse"]["reason"]


def test_how_often_one_logs_does_not_change_what_is_left(workshop, tmp_path):
    """Not a number from iteration 61 on, and the last look that keeps anything is at 50, however many looks follow."""
    changes = {"iterations": 200, "validate_every": 50}
    usual = workshop.train(tmp_path / "usual", "explosive", **changes)
    for every in (1, 3, 50, 1000):
        record = workshop.train(tmp_path / str(every), "explosive", **changes, run={"log_every": every})
        for name in FILES[:3]:
            assert (tmp_path / str(every) / name).read_bytes() == (tmp_path / "usual" / name).read_bytes(), (
                every,
                name,
            )
        assert record["collapse"] == usual["collapse"]
        assert record["last"]["iteration"] == usual["last"]["iteration"] == 50
