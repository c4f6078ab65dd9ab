"""What Table 3 of the paper puts in the place of SAFMN's parts, for the tables in `safmn.networks.safmn`.

Wherever the paper says less than one needs, the choice is this project's and stated at the class.
"""

import importlib
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.errors import UserError

# --- "LN -> ..." -----------------------------------------------------------------------------------------------------


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose four vectors are buffers that never change: no parameters, as Table 3 prints.

    Started from mean 0, variance 1, it is close to the identity, which is why its run can collapse as without a norm.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(dim))
        self.register_buffer("bias", torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class L2Norm2d(nn.Module):
    """Divides each position of N x C x H x W by the Euclidean norm of its channels; no parameters."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)


class NoNorm(nn.Identity):
    """Leaves the features as they are."""

    def __init__(self, dim: int) -> None:
        super().__init__()


# --- Inside SAFM: "AdaptiveMaxPool -> ...", "GELU -> ...", "w/o FM" --------------------------------------------------


def average_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Adaptive average pooling to `size`."""
    return F.adaptive_avg_pool2d(x, size)


def nearest_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-neighbour sampling to `size`."""
    return F.interpolate(x, size=size, mode="nearest")


def identity(x: Tensor) -> Tensor:
    """No activation."""
    return x


def attention_alone(attention: Tensor, x: Tensor) -> Tensor:
    """The attention map without its product with X."""
    return attention


# --- "CCM -> ...": the layers of a channel mixer ---------------------------------------------------------------------


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate made from all channels' means (Hu et al., CVPR 2018), GELU inside."""

    def __init__(self, dim: int, reduction: float = 0.25) -> None:
        super().__init__()
        hidden = int(dim * reduction)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, hidden, 1), nn.GELU(), nn.Conv2d(hidden, dim, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def with_excitation(dim: int, hidden: int) -> list[nn.Module]:
    """CCM with squeeze-and-excitation on the hidden channels."""
    return [nn.Conv2d(dim, hidden, 3, padding=1), nn.GELU(), SqueezeExcitation(hidden), nn.Conv2d(hidden, dim, 1)]


def channel_mlp(dim: int, hidden: int) -> list[nn.Module]:
    """Two 1x1 convolutions."""
    return [nn.Conv2d(dim, hidden, 1), nn.GELU(), nn.Conv2d(hidden, dim, 1)]


def inverted_residual(dim: int, hidden: int) -> list[nn.Module]:
    """CCM with a further depth-wise 3x3 convolution and GELU on the hidden channels."""
    return [
        nn.Conv2d(dim, hidden, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
        nn.GELU(),
        nn.Conv2d(hidden, dim, 1),
    ]


# --- "... -> None", and classes of one's own -------------------------------------------------------------------------


def removed(*_: object) -> None:
    """No module: its branch is left out together with its normalisation."""


def custom(path: str, switch: str, known: Iterable[str]) -> Callable[..., nn.Module]:
    """What builds the class that "package.module:Class" names as Class(dim), whatever else it is given.

    UserError where it cannot be imported or is no module; `known` are the other values that `switch` takes.
    """
    module_name, separator, class_name = path.partition(":")
    if not separator:
        raise UserError(f"{switch}: {path!r} is not known; choose one of {', '.join(known)} or 'package.module:Class'")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{switch}: {path!r} cannot be imported ({error}); is its package installed?") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{switch}: {path!r} is not a torch.nn.Module class")
    return lambda dim, *_: found(dim)
