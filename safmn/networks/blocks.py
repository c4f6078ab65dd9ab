"""Building blocks that several published networks share."""

import torch
from torch import Tensor, nn

from safmn.errors import UserError

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean RGB of DIV2K's 800 training images in [0, 1], as EDSR and its descendants subtract it."""


def check_side(image: Tensor, least: int, network: str) -> None:
    """UserError where a side of N x C x H x W is below `least` pixels, the fewest that the network can compute with."""
    height, width = image.shape[-2:]
    if not torch.jit.is_tracing() and min(height, width) < least:
        raise UserError(
            f"an LR image of {width}x{height} pixels is too small for {network}: give at least {least}x{least}"
        )


class RangeShift(nn.Module):
    """The value range that EDSR's descendants compute in: [0, `rgb_range`] with the mean colour of DIV2K taken away.

    `enter` maps RGB in [0, 1] to that range, `leave` maps back. Plain arithmetic with a buffer: neither parameters nor
    operations that fvcore counts, as the paper's figures for these networks have it.
    """

    def __init__(self, rgb_range: float = 255.0, mean: tuple[float, float, float] = DIV2K_MEAN) -> None:
        super().__init__()
        self.rgb_range = rgb_range
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))

    def enter(self, image: Tensor) -> Tensor:
        """N x 3 x H x W in [0, 1] -> the network's own range."""
        return (image - self.mean) * self.rgb_range

    def leave(self, image: Tensor) -> Tensor:
        """The network's own range -> N x 3 x H x W, nominally in [0, 1], not clamped."""
        return image / self.rgb_range + self.mean


def shift_from_convolutions(state: dict[str, Tensor], prefix: str, rgb_range: float = 255.0) -> dict[str, Tensor]:
    """Replaces the authors' `sub_mean` and `add_mean` 1x1 convolutions by the buffer `{prefix}.mean` of a RangeShift.

    The bias of `sub_mean` is minus the mean in units of `rgb_range`; a state without it gets DIV2K's mean, one that
    has the buffer already is left alone. Raises UserError where the convolutions do more than shift.
    """
    state = dict(state)
    weights = [state.pop(f"{side}_mean.weight", None) for side in ("sub", "add")]
    biases = [state.pop(f"{side}_mean.bias", None) for side in ("sub", "add")]
    if any(w is not None and not torch.allclose(w.flatten().float(), torch.eye(3).flatten()) for w in weights):
        raise UserError("sub_mean.weight or add_mean.weight is not the identity: only a shift of the mean is supported")
    mean = torch.tensor(DIV2K_MEAN) if biases[0] is None else -biases[0].float() / rgb_range
    if biases[1] is not None and not torch.allclose(biases[1].float() / rgb_range, mean, atol=1e-4):
        raise UserError("sub_mean.bias and add_mean.bias are not opposite: only a shift of the mean is supported")
    state.setdefault(f"{prefix}.mean", mean.view(3, 1, 1))
    return state


def channel_gate(channels: int, squeezed: int) -> nn.Sequential:
    """A gate from 0 to 1 for each channel, by way of `squeezed` channels: N x C x 1 x 1 in and out."""
    return nn.Sequential(
        nn.Conv2d(channels, squeezed, 1), nn.ReLU(inplace=True), nn.Conv2d(squeezed, channels, 1), nn.Sigmoid()
    )


def upsampler(
    channels: int, scale: int, *, activation: type[nn.Module] | None = None, groups: int = 1
) -> nn.Sequential:
    """Sub-pixel enlargement in stages: one of x2 or x3, two of x2 for x4 (EDSR, section 3.3).

    Each stage is a 3x3 convolution to channels x factor^2, an optional activation, and a pixel shuffle:
    N x C x H x W -> N x C x sH x sW.
    """
    layers: list[nn.Module] = []
    for factor in {2: [2], 3: [3], 4: [2, 2]}[scale]:
        layers.append(nn.Conv2d(channels, channels * factor**2, 3, padding=1, groups=groups))
        if activation is not None:
            layers.append(activation())
        layers.append(nn.PixelShuffle(factor))
    return nn.Sequential(*layers)
