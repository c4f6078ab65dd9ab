"""Building blocks that several published networks share."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from safmn.errors import UserError

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean RGB of DIV2K's 800 training images in [0, 1], which EDSR and its descendants subtract."""

RGB_RANGE = 255.0

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def check_side(image: Tensor, minimum: int, network: str) -> None:
    """Raise UserError if a side of N x C x H x W has fewer than `minimum` pixels, which `network` needs."""
    height, width = image.shape[-2:]
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]  # public, but not in __all__
    if not tracing and min(height, width) < minimum:
        raise UserError(
            f"an LR image of {width}x{height} pixels is too small for {network}: give at least {minimum}x{minimum}"
        )


class RangeShift(nn.Module):
    """The value range that EDSR's descendants compute in: [0, 255] minus the mean colour of DIV2K.

    Plain arithmetic with a buffer: neither parameters nor operations that fvcore counts, as in the paper's counts.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN).view(3, 1, 1))

    def enter(self, image: Tensor) -> Tensor:
        """Map N x 3 x H x W in [0, 1] to the network's range."""
        return (image - self.mean) * RGB_RANGE

    def leave(self, image: Tensor) -> Tensor:
        """Map N x 3 x H x W in the network's range to [0, 1], not clamped."""
        return image / RGB_RANGE + self.mean


def shift_from_convolutions(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Replace the authors' 1x1 convolutions `sub_mean` and `add_mean` by the buffer `{prefix}.mean` of a RangeShift.

    The bias of `sub_mean` is minus the mean in units of 0-255. A state without it gets DIV2K's mean; one that has
    the buffer already keeps it.

    Raises:
        UserError: the convolutions do more than shift.
    """
    state = dict(state)
    weights = [state.pop(f"{side}_mean.weight", None) for side in ("sub", "add")]
    biases = [state.pop(f"{side}_mean.bias", None) for side in ("sub", "add")]
    if any(w is not None and not torch.allclose(w.flatten().float(), torch.eye(3).flatten()) for w in weights):
        raise UserError("sub_mean.weight or add_mean.weight is not the identity: only a shift of the mean is supported")
    mean = torch.tensor(DIV2K_MEAN) if biases[0] is None else -biases[0].float() / RGB_RANGE
    if biases[1] is not None and not torch.allclose(biases[1].float() / RGB_RANGE, mean, atol=1e-4):
        raise UserError("sub_mean.bias and add_mean.bias are not opposite: only a shift of the mean is supported")
    state.setdefault(f"{prefix}.mean", mean.view(3, 1, 1))
    return state


def channel_gate(channels: int, squeezed: int) -> nn.Sequential:
    """Return layers that compute a gate in (0, 1) for each channel, by way of `squeezed` channels: N x C x 1 x 1."""
    return nn.Sequential(
        nn.Conv2d(channels, squeezed, 1), nn.ReLU(inplace=True), nn.Conv2d(squeezed, channels, 1), nn.Sigmoid()
    )


def upsampler(
    channels: int, scale: int, *, activation: type[nn.Module] | None = None, groups: int = 1
) -> nn.Sequential:
    """Return layers that map N x C x H x W to N x C x sH x sW: one stage for x2 or x3, two of x2 for x4.

    Each stage is a 3x3 convolution to channels x factor^2, an optional activation, and a pixel shuffle (EDSR, section
    3.3).
    """
    layers: list[nn.Module] = []
    for factor in {2: [2], 3: [3], 4: [2, 2]}[scale]:
        layers.append(nn.Conv2d(channels, channels * factor**2, 3, padding=1, groups=groups))
        if activation is not None:
            layers.append(activation())
        layers.append(nn.PixelShuffle(factor))
    return nn.Sequential(*layers)


class Body(nn.Module):
    """A module one level deeper, under the name `body` that authors gave it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Map x as the module does."""
        return self.body(x)


def children(parent: nn.Module, kind: type[ModuleT]) -> list[ModuleT]:
    """Return the direct children of `parent` that are of the class `kind`."""
    return [child for child in parent.children() if isinstance(child, kind)]
