"""The rows of Table 3: what replaces a part of SAFMN, for the tables in `safmn.networks.safmn`.

Where the paper leaves a detail open, the docstring names this project's choice.
"""

import importlib
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.errors import UserError

# --- "LN -> ..." -----------------------------------------------------------------------------------------------------


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose four vectors are constants: "LN -> FBN", without parameters.

    With mean 0 and variance 1 it is close to the identity: its run can collapse like the one without normalisation.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(dim))
        self.register_buffer("bias", torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, N x dim x H x W."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class L2Norm2d(nn.Module):
    """Divides each position by the Euclidean norm of its channels: "LN -> L2 normalization", without parameters."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, N x dim x H x W."""
        return F.normalize(x, dim=1)


class NoNorm(nn.Identity):
    """Returns its input: "LN -> None"."""

    def __init__(self, dim: int) -> None:
        super().__init__()


# --- Inside SAFM: "AdaptiveMaxPool -> ...", "GELU -> ...", "w/o FM" --------------------------------------------------


def average_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Pool N x C x H x W to the height and width `size` by averages: "AdaptiveMaxPool -> AdaptiveAvgPool"."""
    return F.adaptive_avg_pool2d(x, size)


def nearest_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Take the nearest positions of N x C x H x W at the height and width `size`: "-> Nearest interpolate"."""
    return F.interpolate(x, size=size, mode="nearest")


def identity(x: Tensor) -> Tensor:
    """Return x: "GELU -> None"."""
    return x


def attention_alone(attention: Tensor, x: Tensor) -> Tensor:
    """Return the map without its product with X: "w/o FM"."""
    return attention


# --- "CCM -> ...": the layers of a channel mixer ---------------------------------------------------------------------


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018): scales channels by gates from all channels' means; GELU inside."""

    def __init__(self, dim: int, reduction: float = 0.25) -> None:
        super().__init__()
        hidden = int(dim * reduction)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, hidden, 1), nn.GELU(), nn.Conv2d(hidden, dim, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale x, N x dim x H x W."""
        return x * self.gate(x)


def with_excitation(dim: int, hidden: int) -> list[nn.Module]:
    """Return the layers of "w/ SE": a CCM with squeeze-and-excitation on the hidden channels."""
    return [nn.Conv2d(dim, hidden, 3, padding=1), nn.GELU(), SqueezeExcitation(hidden), nn.Conv2d(hidden, dim, 1)]


def channel_mlp(dim: int, hidden: int) -> list[nn.Module]:
    """Return the layers of "CCM -> Channel MLP": two 1x1 convolutions."""
    return [nn.Conv2d(dim, hidden, 1), nn.GELU(), nn.Conv2d(hidden, dim, 1)]


def inverted_residual(dim: int, hidden: int) -> list[nn.Module]:
    """Return the layers of "CCM -> Inverted residual block": a CCM with a depth-wise 3x3 convolution more."""
    return [
        nn.Conv2d(dim, hidden, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
        nn.GELU(),
        nn.Conv2d(hidden, dim, 1),
    ]


# --- "... -> None", and classes of the user --------------------------------------------------------------------------


def removed(*_: object) -> None:
    """Return None: the branch is left out, and its normalisation too."""


def custom(path: str, switch: str, choices: Iterable[str]) -> Callable[..., nn.Module]:
    """Return a function that builds the user's class as Class(dim) and ignores further arguments.

    Args:
        path: "package.module:Class".
        switch: the switch that names it, for messages.
        choices: the other values of the switch.

    Raises:
        UserError: the class cannot be imported or is no `nn.Module`.
    """
    module_name, separator, class_name = path.partition(":")
    if not separator:
        raise UserError(
            f"{switch}: {path!r} is not known; choose one of {', '.join(choices)} or 'package.module:Class'"
        )
    try:
        custom_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{switch}: {path!r} cannot be imported ({error}); is its package installed?") from error
    if not (isinstance(custom_class, type) and issubclass(custom_class, nn.Module)):
        raise UserError(f"{switch}: {path!r} is not a torch.nn.Module class")
    return lambda dim, *_: custom_class(dim)
