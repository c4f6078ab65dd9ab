"""A trial of a user's own network on a small batch, before anything is counted or trained."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from safmn import networks
from safmn.errors import UserError, as_line
from safmn.networks import parameters

SIDE = 24
"""Side in LR pixels of the batch for a training step: a multiple of 8, as a patch usually is."""
ODD = (29, 23)
"""Height and width of an LR image as test sets have them: multiples of nothing."""


def check(name: str, scale: int) -> None:
    """Build the network `name` and run a training step's forward and backward pass, then one odd-sized image.

    They run on the meta device, where nothing is computed, or on the CPU if the network reads values. Then, on the CPU,
    check that the output of an image is the same a second time, and beside another image.

    Raises:
        UserError: it cannot be built, does not run, makes an image of another size or number of channels, has nothing
            to train, cannot be copied, or gives an image other values the second time or beside another image; one line
            that names its file.
    """
    try:
        _run(name, scale, "meta")
    except Exception:  # not every network runs without values: the CPU tells
        _run(name, scale, "cpu")
    _compare(name, scale)


def built(name: str, scale: int) -> nn.Module:
    """Build the network `name` on the meta device if that is possible, else on the CPU; the weights mean nothing."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return networks.build(name, scale)
        except Exception:
            return networks.build(name, scale)


def check_output(output: object, image: Tensor, name: str, scale: int) -> None:
    """Raise UserError if `output` is not what a network `name` for `scale` should make of N x C x H x W `image`."""
    count, channels, height, width = image.shape
    expected = (count, channels, scale * height, scale * width)
    if isinstance(output, Tensor) and tuple(output.shape) == expected:
        return
    made = _shape(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise UserError(
        f"{networks.defined_in(name)}: {name} x{scale} makes {made} of {_shape(image.shape)}, not {_shape(expected)}: "
        "correct the class, its `args`, `scales` or `colour`"
    )


def _run(name: str, scale: int, device: str) -> None:
    where, channels = networks.defined_in(name), networks.info(name).channels
    with torch.random.fork_rng(devices=[]), torch.device(device):
        network = networks.build(name, scale).train()
        image = torch.rand(2, channels, SIDE, SIDE)
        parameters.check_real(network, where)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if not trained:
            raise UserError(f"{where}: {name} has no parameters to train")
        try:
            deepcopy(network).requires_grad_(False)
        except Exception as error:
            raise UserError(
                f"{where}: {name} cannot be copied, which the average of its weights needs ({as_line(error)}): leave "
                "TorchScript out, and take torch.nn.utils.parametrizations.weight_norm for torch.nn.utils.weight_norm"
            ) from error
        output = _output(network, image, where)
        check_output(output, image, name, scale)
        if not output.requires_grad:
            raise UserError(f"{where}: no gradient reaches the parameters of {name}: is it under torch.no_grad()?")
        output.float().abs().mean().backward()
        if all(parameter.grad is None for parameter in trained):
            raise UserError(f"{where}: no gradient reaches the parameters of {name}: does forward() use them?")
        image = torch.rand(1, channels, *ODD)
        with torch.no_grad():
            check_output(_output(network.eval(), image, where), image, name, scale)


def _compare(name: str, scale: int) -> None:
    """Raise UserError if in eval mode an image has other values the second time, or beside another image."""
    where, channels = networks.defined_in(name), networks.info(name).channels
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = networks.build(name, scale).eval()
        # As after some training: a norm at its start gives every image one mean and deviation, and hides statistics.
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.rand_like(parameter))
        first, second = (torch.rand(1, channels, *ODD) * level for level in (1.0, 0.5))
        results = [_output(network, image, where)[:1] for image in (first, first, torch.cat([first, second]))]
    once, again, beside = (result.detach().float() for result in results)
    rounding = 2e-5 * max(1.0, float(once.abs().max()))  # the published networks differ by less than 1e-6
    if float((once - again).abs().max()) > rounding:
        raise UserError(
            f"{where}: {name} gives an image other values the second time: in eval mode, draw no random "
            "numbers and keep nothing of earlier images"
        )
    if float((once - beside).abs().max()) > rounding:
        raise UserError(
            f"{where}: {name} gives an image other values beside another image of its batch: take statistics of each "
            "image by itself, as in x.mean((1, 2, 3), keepdim=True)"
        )


def _output(network: nn.Module, image: Tensor, where: str) -> Tensor:
    try:
        output: Tensor = network(image)
    except (Exception, SystemExit) as error:
        raise UserError(f"{where}: the network does not run on {_shape(image.shape)} ({as_line(error)})") from error
    return output


def _shape(shape: tuple[int, ...] | torch.Size) -> str:
    return "x".join(map(str, shape))
