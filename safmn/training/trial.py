"""A trial of a user's own loss and optimiser on a small batch, before anything is trained."""

import copy
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from safmn import networks
from safmn.errors import UserError, as_line
from safmn.networks import parameters
from safmn.training import loss, own, randomness
from safmn.training.step import TrainStep

BATCH = 2  # patches; with one, a loss that keeps the batch apart would pass for a scalar
LEAST = 8  # LR pixels a side, the smallest that SAFMN takes; a network of a user's own gets its patches
CPU = torch.device("cpu")


def check(specification: dict[str, Any], where: Callable[[str], str]) -> None:
    """Try a run's own loss and optimiser, on the CPU; nothing happens where it has neither.

    The loss is called on random images. Then a step is done, its state saved and read, and the next step done twice:
    after the first, and from the saved state. Both must give the same weights, since a run that is killed resumes so.
    Random generators are left as they were.

    Args:
        specification: from `Study.specification`.
        where: returns the file that names a key of `training`, for messages.

    Raises:
        UserError: one line: the file, the key, what is wrong, and what to do.
    """
    classes = own.classes(specification["training"])
    if not classes:
        return
    state = randomness.state()
    try:
        randomness.seed_everything(0)
        if "loss" in classes:
            _named("loss", where, _try_loss, specification, classes["loss"])
        _try_steps(specification, classes, where)
    finally:
        randomness.restore(state)


def _named(key: str, where: Callable[[str], str], work: Callable[..., Any], *arguments: Any) -> Any:
    """Do some work; whatever it raises is an error of the class that a key names."""
    try:
        return work(*arguments)
    except UserError as error:
        raise UserError(f"{where(key)}: {error}") from error
    except Exception as error:
        raise UserError(
            f"{where(key)}: training.{key}: it fails on a batch of {BATCH} patches ({as_line(error)}): correct it"
        ) from error


def _try_loss(specification: dict[str, Any], path: str) -> None:
    """Call the loss on images and images that differ from them a little."""
    side = specification["training"]["patch"] * specification["scale"]
    hr = torch.rand(BATCH, networks.info(specification["network"]).channels, side, side)
    sr = (hr + 0.1 * torch.randn(hr.shape)).clamp(0, 1).requires_grad_()
    terms = loss.build(specification["training"], CPU)(sr, hr)
    for name, term in terms.items():
        if not term.isfinite():
            raise UserError(f"training.loss: {path} gives {name} = {term.item()} for images in [0, 1]: correct it")
    total = sum(terms.values(), torch.zeros(()))
    if not total.requires_grad:
        raise UserError(f"training.loss: {path} gives a value without gradient: compute it from SR by torch alone")
    total.backward()
    if sr.grad is None or not sr.grad.any():
        raise UserError(f"training.loss: {path} gives a value whose gradient is 0 everywhere: no step would change it")
    if not sr.grad.isfinite().all():
        raise UserError(f"training.loss: {path} gives a gradient that is not finite for images in [0, 1]: correct it")


def _try_steps(specification: dict[str, Any], classes: dict[str, str], where: Callable[[str], str]) -> None:
    settings, scale = specification["training"], specification["scale"]
    name = specification["network"]
    network = networks.accelerate(networks.build(name, scale)).train()
    parameters.check_real(network, networks.defined_in(name))
    info = networks.info(name)
    side = settings["patch"] if "loss" in classes or info.is_own else LEAST
    sizes = ((BATCH, info.channels, side * s, side * s) for s in (1, scale))
    lr, hr = (torch.randint(0, 256, size, dtype=torch.uint8) for size in sizes)
    before = copy.deepcopy(network)
    network(lr / 255)  # so that an error of the network is not told as one of the loss or the optimiser
    key = "optimiser" if "optimiser" in classes else "loss"
    path = classes[key]
    act = partial(_named, key, where)
    number = settings.get("warm_up", 0)  # the rate is highest there

    def made() -> TrainStep:
        randomness.seed_everything(0)  # as a resumed run starts, so what a class draws while it is built is the same
        step: TrainStep = act(TrainStep, copy.deepcopy(before), settings, CPU)
        return step

    def fail(what: str) -> UserError:
        return UserError(f"{where(key)}: training.{key}: {path} {what}")

    step = made()
    act(step, number, lr, hr)
    old, new = list(before.parameters()), list(step.network.parameters())
    if all(torch.equal(one, other) for one, other in zip(old, new, strict=True)):
        raise fail(f"changes no weight in a step with learning rate {settings['learning_rate']}: correct it")
    state = randomness.state()
    buffer = io.BytesIO()
    try:
        torch.save(step.state(), buffer)
        buffer.seek(0)
        saved = torch.load(buffer, weights_only=True)
    except Exception as error:
        raise fail(
            f"has a state that cannot be saved and read again ({as_line(error)}): let its state_dict() "
            "hold tensors, numbers and text"
        ) from error
    act(step, number + 1, lr, hr)
    randomness.restore(state)
    other = made()
    randomness.restore(state)
    act(other.restore, saved)
    act(other, number + 1, lr, hr)
    if not _same(step.state(), other.state()):
        raise fail(
            "does not continue from its saved state as if nothing had happened: let its state_dict() hold all that a "
            "later call depends on"
        )


def _same(one: Any, other: Any) -> bool:
    """Return whether two states have the same bits."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and bool(((one == other) | ((one != one) & (other != other))).all())  # NaN is the same as NaN
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)
