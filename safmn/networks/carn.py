"""CARN and CARN-M (Ahn et al., ECCV 2018): residual blocks whose outputs cascade into every later block.

Attribute names are the authors', so that their files load unchanged. One file of theirs serves three scales: the
network holds an upsampler for each and uses the one of its scale. So #Params counts all three, #FLOPs and #Acts one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from safmn.networks.blocks import DIV2K_MEAN, Body, upsampler


class MeanShift(nn.Module):
    """Subtracts (sign -1) or adds (sign 1) DIV2K's mean by a frozen 1x1 convolution, which the counts include."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.shifter = nn.Conv2d(3, 3, 1)
        self.shifter.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.shifter.bias = nn.Parameter(sign * torch.tensor(DIV2K_MEAN))
        self.shifter.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Shift RGB, N x 3 x H x W."""
        return self.shifter(image)


def fusion(channels_in: int, channels: int) -> Body:
    """Return a 1x1 convolution and ReLU on all earlier outputs: N x channels_in x H x W to N x channels x H x W."""
    return Body(nn.Sequential(nn.Conv2d(channels_in, channels, 1), nn.ReLU()))


class Residual(nn.Module):
    """Two 3x3 convolutions; grouped ones are followed by a 1x1 that mixes the groups (CARN-M, section 3.3)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
        ]
        if groups > 1:
            layers += [nn.ReLU(), nn.Conv2d(channels, channels, 1)]
        self.body = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Map N x C x H x W to the same shape."""
        return (features + self.body(features)).relu()


class Cascade(nn.Module):
    """Three units, each followed by a fusion of the input and all outputs so far (equations 1-5).

    The units are residual blocks inside a cascading block, and cascading blocks inside the network.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.c1 = fusion(2 * channels, channels)
        self.c2 = fusion(3 * channels, channels)
        self.c3 = fusion(4 * channels, channels)

    def cascade(self, features: Tensor, units: Sequence[nn.Module]) -> list[Tensor]:
        """Return all intermediate tensors; the last one is the output of the last fusion, N x C x H x W."""
        steps = [features]
        collected = current = features
        for unit, fuse in zip(units, (self.c1, self.c2, self.c3), strict=True):
            result = unit(current)
            collected = torch.cat([collected, result], dim=1)
            current = fuse(collected)
            steps += [result, collected, current]
        return steps


class CascadingBlock(Cascade):
    """A cascade of three residual blocks; CARN-M uses one block three times (its recursive scheme, section 3.3)."""

    def __init__(self, channels: int, groups: int, shared: bool) -> None:
        super().__init__(channels)
        self.shared = shared
        self.b1 = Residual(channels, groups)
        if not shared:
            self.b2 = Residual(channels, groups)
            self.b3 = Residual(channels, groups)

    def forward(self, features: Tensor) -> Tensor:
        """Map N x C x H x W to the same shape."""
        units = [self.b1] * 3 if self.shared else [self.b1, self.b2, self.b3]
        return self.cascade(features, units)[-1]


class CARN(Cascade):
    """CARN: three cascading blocks of `channels` channels (section 3.1)."""

    def __init__(self, scale: int, channels: int = 64, groups: int = 1, shared: bool = False) -> None:
        super().__init__(channels)
        self.scale = scale
        self.sub_mean = MeanShift(-1)
        self.add_mean = MeanShift(1)
        self.entry = nn.Conv2d(3, channels, 3, padding=1)
        self.b1 = CascadingBlock(channels, groups, shared)
        self.b2 = CascadingBlock(channels, groups, shared)
        self.b3 = CascadingBlock(channels, groups, shared)
        upsamplers = {s: upsampler(channels, s, activation=nn.ReLU, groups=groups) for s in (2, 3, 4)}
        self.upsample = nn.ModuleDict({f"up{s}": Body(layers) for s, layers in upsamplers.items()})
        self.exit = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Upscale RGB in [0, 1], N x 3 x H x W to N x 3 x sH x sW."""
        # `steps` stays alive until the return, as the local variables of the authors' code do: these tensors are a
        # third of CARN's memory in Table 2.
        steps = self.cascade(self.entry(self.sub_mean(image)), [self.b1, self.b2, self.b3])
        return self.add_mean(self.exit(self.upsample[f"up{self.scale}"](steps[-1])))


class CARNM(CARN):
    """CARN for phones: convolutions in four groups, one residual block shared inside each cascading block."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale, groups=4, shared=True)
