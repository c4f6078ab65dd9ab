"""CARN and CARN-M: residual blocks whose outputs cascade into every later one, locally and globally.

Attribute names are the authors', so that their files open as they are. One file of theirs serves three scales: the
network holds an upsampler for each and uses the one of its scale. Hence #Params has all three, #FLOPs and #Acts one.
"""

import torch
from torch import Tensor, nn

from safmn.networks.blocks import DIV2K_MEAN, upsampler
from safmn.networks.registry import published

REFERENCE = (
    "Ahn, Kang and Sohn, Fast, accurate, and lightweight super-resolution with cascading residual network, ECCV 2018"
)


class MeanShift(nn.Module):
    """Subtracts or adds DIV2K's mean by a frozen 1x1 convolution; the paper's counts have it."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.shifter = nn.Conv2d(3, 3, 1)
        self.shifter.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.shifter.bias.data = sign * torch.tensor(DIV2K_MEAN)
        self.shifter.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        return self.shifter(image)


class Fusion(nn.Module):
    """1x1 convolution and ReLU on everything that came before."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels_in, channels, 1), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        return self.body(features)


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
        return (features + self.body(features)).relu()


class Cascade(nn.Module):
    """Three units, each followed by a fusion of the input and all outputs so far (equations 1-5).

    The units are residual blocks inside a cascading block and cascading blocks inside the network: the scheme is the
    same on both levels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.c1 = Fusion(2 * channels, channels)
        self.c2 = Fusion(3 * channels, channels)
        self.c3 = Fusion(4 * channels, channels)

    def cascade(self, features: Tensor, units: list[nn.Module]) -> list[Tensor]:
        """Every tensor made on the way, the output of the last fusion at the end."""
        steps = [features]
        collected = current = features
        for unit, fusion in zip(units, (self.c1, self.c2, self.c3), strict=True):
            result = unit(current)
            collected = torch.cat([collected, result], dim=1)
            current = fusion(collected)
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
        units = [self.b1] * 3 if self.shared else [self.b1, self.b2, self.b3]
        return self.cascade(features, units)[-1]


class Stages(nn.Module):
    """The upsampler of one scale under the name that the authors' files have for it."""

    def __init__(self, channels: int, scale: int, groups: int) -> None:
        super().__init__()
        self.body = upsampler(channels, scale, activation=nn.ReLU, groups=groups)

    def forward(self, features: Tensor) -> Tensor:
        return self.body(features)


@published("carn", "CARN", rows={1: "CARN", 2: "CARN"}, reference=REFERENCE)
class CARN(Cascade):
    """N x 3 x H x W -> N x 3 x sH x sW, RGB in [0, 1]."""

    def __init__(self, scale: int, channels: int = 64, groups: int = 1, shared: bool = False) -> None:
        super().__init__(channels)
        self.scale = scale
        self.sub_mean = MeanShift(-1)
        self.add_mean = MeanShift(1)
        self.entry = nn.Conv2d(3, channels, 3, padding=1)
        self.b1 = CascadingBlock(channels, groups, shared)
        self.b2 = CascadingBlock(channels, groups, shared)
        self.b3 = CascadingBlock(channels, groups, shared)
        self.upsample = nn.ModuleDict({f"up{s}": Stages(channels, s, groups) for s in (2, 3, 4)})
        self.exit = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        # `steps` stays alive until the return, as the local variables of the authors' code do: a third of the memory
        # that Table 2 prints for CARN are these tensors, held while the upsampler runs.
        steps = self.cascade(self.entry(self.sub_mean(image)), [self.b1, self.b2, self.b3])
        return self.add_mean(self.exit(self.upsample[f"up{self.scale}"](steps[-1])))


@published("carn_m", "CARN-M", rows={1: "CARN-M", 2: "CARN-M"}, reference=REFERENCE)
class CARNM(CARN):
    """CARN for phones: convolutions in four groups, one residual block shared inside each cascading block."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale, groups=4, shared=True)
