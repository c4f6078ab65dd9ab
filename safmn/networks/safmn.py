"""SAFMN: Eq. (1)-(4) and Figure 3 of its paper, with a dictionary for each part that Tables 3 and 4 replace.

Sun et al., "Spatially-Adaptive Feature Modulation for Efficient Image Super-Resolution", ICCV 2023, Sections 3 and 5.
The baseline's parameters have the authors' names (`to_feat`, `feats.N.norm1`, `feats.N.safm.mfr`, `feats.N.safm.aggr`,
`feats.N.norm2`, `feats.N.ccm.ccm`, `to_img`): other tools open the files of this project, and the authors' files load.
Faster forms of these modules for a CPU are in `safmn.networks.acceleration`.

Each dictionary is indexed by a variable named like the switch, `POOLINGS[pooling]`: `safmn.fingerprint` finds the code
that a variant uses by that name.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.errors import UserError
from safmn.networks import switches
from safmn.networks.blocks import check_side

LEVELS = 4  # Eq. (1): X_0 keeps its resolution, X_i is pooled to 1 / 2^i
SMALLEST_SIDE = 2 ** (LEVELS - 1)


# --- Layer normalisation, LN of Eq. (4) ------------------------------------------------------------------------------


class LayerNorm2d(nn.Module):
    """Normalise each position of N x dim x H x W over its channels, then scale and shift each channel.

    Separate operations as in the authors' code, not `F.layer_norm`: the paper's #FLOPs and memory count them.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, N x dim x H x W."""
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer_norm": LayerNorm2d,
    "none": switches.NoNorm,
    "batch_norm": nn.BatchNorm2d,
    "frozen_batch_norm": switches.FrozenBatchNorm2d,
    "l2": switches.L2Norm2d,
}


# --- Spatially-adaptive feature modulation, Section 3.1 --------------------------------------------------------------


def max_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Pool N x C x H x W to the height and width `size` by maxima, the paper's choice in Eq. (1)."""
    return F.adaptive_max_pool2d(x, size)


def gelu(x: Tensor) -> Tensor:
    """Apply the exact (erf) GELU, phi of Eq. (3)."""
    return F.gelu(x)


def product(attention: Tensor, x: Tensor) -> Tensor:
    """Multiply element by element, as in Eq. (3)."""
    return attention * x


POOLINGS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "max": max_pool,
    "average": switches.average_pool,
    "nearest": switches.nearest_pool,
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "none": switches.identity,
    "sigmoid": torch.sigmoid,
}
AGGREGATIONS: dict[bool, Callable[..., nn.Module]] = {True: nn.Conv2d, False: nn.Identity}
MODULATIONS: dict[bool, Callable[[Tensor, Tensor], Tensor]] = {True: product, False: switches.attention_alone}


class SAFM(nn.Module):
    """Spatially-adaptive feature modulation, Eq. (1)-(3): multi-scale features of X form a map that modulates X.

    Args:
        dim: channels of X.
        pooling: how Eq. (1) reduces X_i to 1 / 2^i of its size: "max", "average" or "nearest".
        activation: phi of Eq. (3): "gelu", "none" or "sigmoid".
        multi_scale: False is "w/o MR": one depth-wise convolution at full resolution over all channels.
        aggregation: False is "w/o FA": no 1x1 convolution, Eq. (2) only concatenates.
        modulation: False is "w/o FM": Eq. (3) returns phi of the map without the product with X.

    Raises:
        UserError: `dim` is not a multiple of the number of levels.
    """

    def __init__(
        self,
        dim: int,
        pooling: str = "max",
        activation: str = "gelu",
        multi_scale: bool = True,
        aggregation: bool = True,
        modulation: bool = True,
    ) -> None:
        super().__init__()
        levels = LEVELS if multi_scale else 1
        if dim % levels:
            raise UserError(f"SAFM splits its channels into {levels} equal groups: dim {dim} is not a multiple")
        group = dim // levels
        self.mfr = nn.ModuleList(nn.Conv2d(group, group, 3, padding=1, groups=group) for _ in range(levels))
        self.aggr = AGGREGATIONS[aggregation](dim, dim, 1)
        self.pool = POOLINGS[pooling]
        self.activation = ACTIVATIONS[activation]
        self.modulate = MODULATIONS[modulation]

    def forward(self, x: Tensor) -> Tensor:
        """Modulate x, N x dim x H x W."""
        height, width = x.shape[-2:]
        groups = x.chunk(len(self.mfr), dim=1)  # Eq. (1): X_0 to X_3
        features = [self.mfr[0](groups[0])]
        for i in range(1, len(self.mfr)):
            pooled = self.pool(groups[i], (height // 2**i, width // 2**i))
            features.append(F.interpolate(self.mfr[i](pooled), size=(height, width), mode="nearest"))
        aggregated = self.aggr(torch.cat(features, dim=1))  # Eq. (2)
        return self.modulate(self.activation(aggregated), x)  # Eq. (3)


# --- Convolutional channel mixer, Section 3.2 ------------------------------------------------------------------------


class CCM(nn.Module):
    """Convolutional channel mixer (Section 3.2), or the layers that Table 3 puts in its place.

    Args:
        dim: channels in and out.
        expansion: hidden channels / `dim`.
        layers: makes the layers of `dim` and of the hidden channels.
    """

    def __init__(self, dim: int, expansion: float, layers: Callable[[int, int], list[nn.Module]]) -> None:
        super().__init__()
        self.ccm = nn.Sequential(*layers(dim, int(dim * expansion)))

    def forward(self, x: Tensor) -> Tensor:
        """Map N x dim x H x W to the same shape."""
        return self.ccm(x)


def convolutional(dim: int, hidden: int) -> list[nn.Module]:
    """Return a 3x3 convolution to `hidden` channels, GELU, and a 1x1 convolution back to `dim`."""
    return [nn.Conv2d(dim, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, dim, 1)]


# --- The network, Figure 3 -------------------------------------------------------------------------------------------


class FMM(nn.Module):
    """Feature mixing module, Eq. (4): Y = SAFM(LN(X)) + X, then Z = CCM(LN(Y)) + Y.

    A part that is None ("-> None" of Table 3) is left out with its normalisation.
    """

    def __init__(
        self, dim: int, norm: Callable[[int], nn.Module], safm: nn.Module | None, ccm: nn.Module | None
    ) -> None:
        super().__init__()
        self.norm1 = nn.Identity() if safm is None else norm(dim)
        self.safm = safm
        self.norm2 = nn.Identity() if ccm is None else norm(dim)
        self.ccm = ccm

    def forward(self, x: Tensor) -> Tensor:
        """Map X, N x dim x H x W, to Z of the same shape."""
        y = x if self.safm is None else self.safm(self.norm1(x)) + x
        return y if self.ccm is None else self.ccm(self.norm2(y)) + y


MIXERS: dict[str, Callable[..., nn.Module | None]] = {"safm": SAFM, "none": switches.removed}
CHANNEL_MIXERS: dict[str, Callable[..., nn.Module | None]] = {
    "ccm": partial(CCM, layers=convolutional),
    "ccm_se": partial(CCM, layers=switches.with_excitation),
    "channel_mlp": partial(CCM, layers=switches.channel_mlp),
    "inverted_residual": partial(CCM, layers=switches.inverted_residual),
    "none": switches.removed,
}


class SAFMN(nn.Module):
    """SAFMN, Figure 3: a 3x3 convolution, the FMMs under a skip connection, and a pixel shuffle.

    Args:
        scale: the factor s by which height and width grow.
        dim: feature channels (36 in the paper).
        n_blocks: number of FMMs (8 in the paper; Table 4 varies it).
        expansion: hidden channels of the channel mixer / dim.
        norm: a name in `NORMS` or "package.module:Class", built as Class(dim).
        mixer: a name in `MIXERS` or "package.module:Class", built as Class(dim).
        channel_mixer: a name in `CHANNEL_MIXERS` or "package.module:Class", built as Class(dim).
        pooling: see `SAFM`.
        activation: see `SAFM`.
        multi_scale: see `SAFM`.
        aggregation: see `SAFM`.
        modulation: see `SAFM`.

    Raises:
        UserError: a switch has an unknown value, or a class that it names cannot be imported.
    """

    def __init__(
        self,
        scale: int,
        dim: int = 36,
        n_blocks: int = 8,
        expansion: float = 2.0,
        norm: str = "layer_norm",
        mixer: str = "safm",
        channel_mixer: str = "ccm",
        pooling: str = "max",
        activation: str = "gelu",
        multi_scale: bool = True,
        aggregation: bool = True,
        modulation: bool = True,
    ) -> None:
        super().__init__()
        make_norm = NORMS[norm] if norm in NORMS else switches.custom(norm, "norm", NORMS.keys())
        make_mixer = MIXERS[mixer] if mixer in MIXERS else switches.custom(mixer, "mixer", MIXERS.keys())
        make_channel_mixer = (
            CHANNEL_MIXERS[channel_mixer]
            if channel_mixer in CHANNEL_MIXERS
            else switches.custom(channel_mixer, "channel_mixer", CHANNEL_MIXERS.keys())
        )

        def block() -> FMM:
            safm = make_mixer(dim, pooling, activation, multi_scale, aggregation, modulation)
            return FMM(dim, make_norm, safm, make_channel_mixer(dim, expansion))

        self.smallest_side = SMALLEST_SIDE if mixer == "safm" and multi_scale else 1
        self.to_feat = nn.Conv2d(3, dim, 3, padding=1)
        self.feats = nn.Sequential(*(block() for _ in range(n_blocks)))
        self.to_img = nn.Sequential(nn.Conv2d(dim, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Upscale RGB in [0, 1], N x 3 x H x W, to N x 3 x sH x sW, not clamped.

        Raises:
            UserError: H or W is below 8, where SAFM pools to an eighth.
        """
        check_side(x, self.smallest_side, "SAFM, which pools to one eighth")
        features = self.to_feat(x)
        return self.to_img(self.feats(features) + features)
