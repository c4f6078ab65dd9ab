"""Losses and optimisers of a user's own: what they are given, what is written of them, and what each mistake gets."""

import csv
import errno
import json
import os
import random
import shutil

import numpy as np
import pytest
import torch

from safmn import cli, networks
from safmn.cost import memory
from safmn.errors import UserError
from safmn.planning import disk
from safmn.schema import RunSettings
from safmn.training import capture, loop, own, trial
from safmn.training.collapse import OwnLossWatch
from safmn.training.step import TrainStep

from .workshop import contents

GOOD = {"loss": "own_training:Charbonnier", "optimiser": {"name": "own_training:SignMomentum", "beta": 0.8}}
CPU = torch.device("cpu")


def tried(workshop, **changes) -> None:
    """The trial of a run; the files that its messages name are `KEY.yaml`."""
    run = workshop._arguments(workshop.folder, "tiny", 0, {"patch": 8, **changes})
    trial.check(run[0], "{}.yaml".format)


# --- trial ---


@pytest.mark.parametrize(
    "changes",
    [
        GOOD,
        {"loss": "own_training:TwoTerms"},
        {"loss": "own_training:Moody"},
        {"loss": "own_training:Single", "precision": "bf16"},
        {"loss": "own_training:LooksAtValues"},
        {"loss": "torch.nn:SmoothL1Loss"},
        {"optimiser": {"name": "torch.optim:RAdam", "betas": [0.5, 0.9]}, "weight_decay": 0.1},
    ],
    ids=str,
)
def test_sound_ones_pass_and_leave_no_trace(workshop, changes):
    """The random generators are where they were."""
    torch.manual_seed(5)
    random.seed(5)
    tried(workshop, **changes)
    drawn = torch.rand(3), random.random()
    torch.manual_seed(5)
    random.seed(5)
    assert torch.equal(torch.rand(3), drawn[0])
    assert random.random() == drawn[1]


LOSSES = {
    "NotANumber": "gives loss = nan for images in [0, 1]",
    "Map": "gives loss with shape (2, 3, 32, 32): return a scalar",
    "Detached": "without gradient",
    "Flat": "gradient is 0 everywhere",
    "Number": "gives loss as float: return a scalar tensor",
    "Nothing": "a dict without terms",
    "NameTaken": "gives a term the name 'learning_rate'",
    "NeedsArguments": "cannot be built without arguments",
    "Raises": "the sizes do not match",
    "Forgetful": "does not continue from its saved state",
    "NoCall": "cannot be called",
    "Missing": "cannot be imported",
    "a_function": "is not a class",
}
OPTIMISERS = {
    "NoOptimiser": "has no step, zero_grad, state_dict, load_state_dict, param_groups",
    "Idle": "changes no weight in a step",
    "ForgetfulOptimiser": "does not continue from its saved state",
    "Unsaveable": "state that cannot be saved",
    "Missing": "cannot be imported",
}


def refused(workshop, key: str, says: str, **changes) -> None:
    with pytest.raises(UserError) as caught:
        tried(workshop, **changes)
    message = str(caught.value)
    assert message.startswith(f"{key}.yaml: training.{key}: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_none(workshop, name):
    refused(workshop, "loss", LOSSES[name], loss=f"own_training:{name}")


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_that_is_none(workshop, name):
    refused(workshop, "optimiser", OPTIMISERS[name], optimiser={"name": f"own_training:{name}"})


def test_arguments_that_an_optimiser_does_not_take(workshop):
    for arguments in ({"betta": 0.9}, {"beta": "x"}):
        optimiser = {"name": "own_training:SignMomentum", **arguments}
        says = "cannot be built from (parameters, lr, betta)" if "betta" in arguments else "fails on a batch of 2"
        refused(workshop, "optimiser", says, optimiser=optimiser)
    refused(workshop, "optimiser", "fails on a batch of 2", optimiser="torch.optim:LBFGS")  # wants a closure


def test_modules_that_cannot_be_imported(workshop):
    (workshop.variants / "with_an_error.py").write_text("def broken(:\n")
    for path in ("nowhere_at_all:Loss", "with_an_error:Loss"):
        refused(workshop, "loss", "cannot be imported", loss=path)


@pytest.mark.parametrize("place", ["installed", "in another study"])
def test_a_module_that_another_one_hides_is_refused(workshop, tmp_path, monkeypatch, place):
    """Never another class than the one beside the variant, whose code is what the fingerprint covers."""
    folder = shutil.copytree(workshop.variants, tmp_path / "variants")
    module = f"hidden_{place.replace(' ', '_')}"
    (tmp_path / "elsewhere").mkdir()
    for where in (folder, tmp_path / "elsewhere"):
        shutil.copy(folder / "own_training.py", where / f"{module}.py")
    if place == "installed":
        monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    else:  # as a study before it may have left it
        monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path / "elsewhere"))
        own.load(f"{module}:Charbonnier", "loss")
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    optimiser = {"name": f"{module}:SignMomentum"}
    for key, value in {"loss": f"{module}:Charbonnier", "optimiser": optimiser}.items():
        refused(workshop, key, f"which Python finds before {folder / module}.py: rename the latter", **{key: value})
    assert own.load("torch.nn:L1Loss", "loss") is torch.nn.L1Loss


@pytest.mark.parametrize("network", ["lazy", "complex"])
def test_a_network_that_cannot_be_trained_is_not_told_as_a_wrong_loss(workshop, network):
    specification = workshop._arguments(workshop.folder, network, 0, {"patch": 8, **GOOD})[0]
    with pytest.raises(UserError) as caught:
        trial.check(specification, "{}.yaml".format)
    assert "training." not in str(caught.value)


@pytest.mark.parametrize("command", ["train", "trial"])
def test_the_commands_tell_it_before_anything_is_trained(workshop, tmp_path, capsys, monkeypatch, command):
    """One line, in which the variant's file is named, since it is there that the loss is."""
    folder = shutil.copytree(workshop.variants, tmp_path / "variants")  # one that nobody has looked into
    module = f"for_{command}"
    (folder / "own_training.py").rename(folder / f"{module}.py")
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    variant = folder / "wrong.yaml"
    network = {"dim": 8, "n_blocks": 1}
    content = {"title": "x", "description": "x", "network": network, "training": {"loss": f"{module}:Map"}}
    variant.write_text(json.dumps(content))
    content = workshop.content(iterations=5, validate_every=5) | {"variants": ["wrong"]}
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps(content))
    arguments = workshop.arguments(tmp_path / "run", "wrong", study)
    status = cli.main(arguments if command == "train" else ["trial", "--study", str(study)])
    said = capsys.readouterr().err.splitlines()
    assert status == 2
    assert said[-1].startswith(f"safmn {command}: {variant}: training.loss: {module}:Map gives loss with shape")
    assert not (tmp_path / "run" / "state").exists()


def test_a_class_that_fails_later_is_told_in_one_line(workshop, tmp_path, capsys, monkeypatch):
    """The trial's patches are smaller than those of training."""
    folder = shutil.copytree(workshop.variants, tmp_path / "variants")
    (folder / "late_losses.py").write_text(
        "class Late:\n"
        "    def __call__(self, sr, hr):\n"
        "        self.calls = getattr(self, 'calls', 0) + 1\n"
        "        if self.calls > 6:\n"
        "            raise RuntimeError('too late\\nfor this')\n"
        "        return (sr - hr).abs().mean()\n"
    )
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    content = {"title": "x", "description": "x", "network": {"dim": 8, "n_blocks": 1}}
    (folder / "late.yaml").write_text(json.dumps(content | {"training": {"loss": "late_losses:Late"}}))
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps(workshop.content(iterations=9, validate_every=9) | {"variants": ["late"]}))
    assert cli.main(workshop.arguments(tmp_path / "run", "late", study)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"safmn train: {folder / 'late.yaml'}: late fails in training (RuntimeError: too late)")
    assert not (tmp_path / "run" / "best.safetensors").exists()

    def full(*_args, **_more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(loop, "train", full)  # which is no fault of the class
    assert cli.main(workshop.arguments(tmp_path / "run", "late", study)) != 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert os.strerror(errno.ENOSPC) in said
    assert "correct" not in said


# --- what they get and what is written ---


def test_a_loss_takes_the_place_of_both_terms(workshop, tmp_path):
    """The first row of the history, computed by hand; the columns have the names of its terms."""
    out = tmp_path / "run"
    workshop.train(out, loss="own_training:TwoTerms", iterations=10, run={"log_every": 1})
    with open(out / "history.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == [
        "iteration",
        "learning_rate",
        "pixel",
        "similarity",
        "gradient_norm",
        "validation_psnr_rgb",
    ]
    run = workshop.training(tmp_path / "other", loss="own_training:TwoTerms")
    lr, hr = (pixels.float() / 255 for pixels in run.sampler.batch(0))
    sr = run.kept.step.network(lr)
    assert float(rows[0]["pixel"]) == pytest.approx((sr - hr).abs().mean().item(), rel=1e-5)
    assert float(rows[0]["similarity"]) == pytest.approx(-1 / (1 + (sr - hr).square().mean().item()), rel=1e-5)
    total = (sr - hr).abs().mean() - 1 / (1 + (sr - hr).square().mean())
    gradients = torch.autograd.grad(total, list(run.kept.step.network.parameters()))
    norm = sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5
    assert float(rows[0]["gradient_norm"]) == pytest.approx(norm, rel=1e-4)


def test_a_scalar_is_called_loss_and_parameters_of_a_loss_are_not_trained(workshop, tmp_path):
    out = tmp_path / "run"
    workshop.train(out, loss="own_training:Moody", iterations=10, run={"log_every": 1})
    assert (out / "history.csv").read_text().startswith("iteration,learning_rate,weighted,gradient_norm")
    workshop.train(tmp_path / "one", loss="own_training:Charbonnier", iterations=10)
    assert (tmp_path / "one" / "history.csv").read_text().startswith("iteration,learning_rate,loss,gradient_norm")
    step = workshop.training(tmp_path / "other", loss="own_training:Moody").kept.step
    trained = {id(each) for group in step.optimiser.param_groups for each in group["params"]}
    assert trained == {id(each) for each in step.network.parameters()}
    assert not any(each.requires_grad for each in step.loss.function.parameters())


def test_an_optimiser_follows_the_schedule(workshop, tmp_path):
    """SignMomentum by hand, with the rate of each iteration."""
    optimiser = {"name": "own_training:SignMomentum", "beta": 0.8}
    step = workshop.training(tmp_path / "run", optimiser=optimiser, schedule="constant", warm_up=4).kept.step
    weight = next(iter(step.network.parameters()))
    mean = torch.zeros_like(weight)
    for iteration in range(6):
        expected = weight.detach().clone()
        lr, hr = (torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8) for side in (8, 32))
        step(iteration, lr, hr)
        mean += 0.2 * (weight.grad - mean)
        rate = 1e-3 * min(1, (iteration + 1) / 4)
        expected -= rate * (1 + (iteration + 1) % 2) * mean.sign()
        torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-6)


def test_same_run_twice_and_on_another_seed(workshop, tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        workshop.train(tmp_path / folder, seed=seed, iterations=10, **GOOD)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")


# --- prediction and recording ---


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        (GOOD, ""),
        ({"optimiser": {"name": "sgd", "momentum": 0.9}, "gradient_clip": 1.0}, ""),
        ({"loss": "own_training:LooksAtValues"}, "without own_training:LooksAtValues"),
        (GOOD | {"loss": "own_training:LooksAtValues"}, "without own_training:LooksAtValues"),
    ],
    ids=str,
)
def test_memory_and_disk_are_predicted(workshop, tmp_path, changes, remark):
    """The state that is predicted is as large as the one that is written."""
    specification = workshop._arguments(tmp_path, "tiny", 0, changes)[0]
    settings = specification["training"]
    predicted = memory.predict_training("tiny", 4, settings)
    assert predicted.get("remark", "")[: len(remark)] == remark
    assert bool(remark) == ("remark" in predicted)
    weights = sum(-(-4 * each.numel() // 512) * 512 for each in networks.build("tiny", 4).parameters())
    moments = 1 if "optimiser" in changes else 2
    assert predicted["optimiser"] == moments * weights
    sizes = disk.of_run(specification, RunSettings(save_every=0))
    workshop.train(tmp_path / "run", **changes, run={"save_every": 0})
    written = sum(file.stat().st_size for file in (tmp_path / "run/state").glob("*.state"))
    assert 0.8 * written < sizes["states"] < 1.4 * written
    assert sizes["history"] == pytest.approx((tmp_path / "run/history.csv").stat().st_size, rel=0.5)


def test_what_may_not_be_fit_for_a_cuda_graph_is_not_recorded(workshop, caplog, monkeypatch):
    """The same step without a graph, and a remark; the device itself is not needed to see that."""
    settings = workshop._arguments(workshop.folder, "tiny", 0, {"optimiser": GOOD["optimiser"]})[0]["training"]
    step = TrainStep(networks.build("tiny", 4), settings, CPU)
    step.device = torch.device("cuda")
    assert capture.as_asked(step, RunSettings(cuda_graph=True)) is step
    assert "run.cuda_graph is not used, which changes no result: an optimiser of your own" in caplog.text


# --- collapse of a loss whose size is not known ---


def watched(losses, watch=None, start=0):
    watch = watch or OwnLossWatch()
    for index, value in enumerate(losses):
        found = watch.look(start + index + 1, [value], 1.0)
        if found is not None:
            return found, watch
    return None, watch


def decaying(count, seed=0, spread=0.3):
    generator = random.Random(seed)
    return [(0.04 + 0.36 * np.exp(-i / 300)) * generator.lognormvariate(0, spread) for i in range(count)]


UNITS = [(1, 0), (1, -1), (1e4, 0), (1e-6, -3e-7), (255, -40)]


@pytest.mark.parametrize(("unit", "zero"), UNITS)
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_noise_is_no_collapse_in_any_unit(unit, zero, spread):
    for seed in range(3):
        assert watched([unit * loss + zero for loss in decaying(4000, seed, spread)])[0] is None


@pytest.mark.parametrize(("unit", "zero"), UNITS)
def test_a_jump_is_one_in_any_unit(unit, zero):
    """Half of the way back to the start, and well above the scatter; found where half of the window is."""
    losses = decaying(2000, spread=0.2) + [0.25] * 400
    found, _ = watched([unit * loss + zero for loss in losses])
    assert found is not None
    assert 2000 < found.iteration <= 2051
    assert "scatter" in found.reason


@pytest.mark.parametrize("first", [0.4, -0.02, 1e4])
def test_an_explosion_before_the_run_had_a_level(first):
    found, watch = watched([first, 1e6] + [1e9] * 300)
    assert found is not None
    assert found.iteration == 10
    assert not watch.healthy


def test_a_loss_that_does_not_move_is_none():
    assert watched([0.5] * 1000)[0] is None
    assert watched([0.0] * 1000)[0] is None


def test_not_finite_is_one():
    assert watched([-3.0] * 5 + [float("nan")])[0].iteration == 6


@pytest.mark.parametrize("cut", [1, 9, 150, 2030, 2249])
def test_a_restored_watch_comes_to_the_same_verdict(cut):
    losses = [loss - 1 for loss in decaying(2000, spread=0.2) + [0.25] * 400]
    _, first = watched(losses[:cut])
    second = OwnLossWatch()
    second.restore(json.loads(json.dumps(first.state())))
    assert watched(losses[cut:], second, cut)[0] == watched(losses)[0]


def test_a_collapse_with_a_loss_of_ones_own_is_a_result(workshop, tmp_path):
    record = workshop.train(tmp_path / "run", "explosive", iterations=200, loss="own_training:TwoTerms")
    assert record["outcome"] == "collapsed"
    assert record["collapse"]["iteration"] == 61
    assert record["last"]["iteration"] == 60
