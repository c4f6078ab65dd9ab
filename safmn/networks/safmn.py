"""SAFMN and every switch that Tables 3 and 4 of the paper turn.

Sun et al., "Spatially-Adaptive Feature Modulation for Efficient Image Super-Resolution", ICCV 2023, Sections 3 and 5.
The baseline's parameters carry the authors' names (`to_feat`, `feats.N.norm1`, `feats.N.safm.mfr`, `feats.N.safm.aggr`,
`feats.N.norm2`, `feats.N.ccm.ccm`, `to_img`), so that other tools open what is trained here, and the authors' files
load.
"""

import importlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.errors import UserError
from safmn.networks import cpu, ranges
from safmn.networks.blocks import Conv1x1, Conv2d, PixelShuffle

LEVELS = 4  # Eq. (1): X_0 keeps its resolution, X_i is pooled to 1 / 2^i
SMALLEST_SIDE = 2 ** (LEVELS - 1)


# --- Normalisation: "LN -> ..." in Table 3 ---------------------------------------------------------------------------


class LayerNorm2d(nn.Module):
    """Normalises each position of N x C x H x W over its channels, then scales and shifts.

    `fused=True` runs torch's kernel, in training on a CPU with the backward pass of `cpu.LayerNorm`. `fused=False` runs
    the formula written out, as the authors do: fvcore counts its steps as 0 FLOPs but the fused kernel as 5 an element,
    so whoever counts by the paper's convention (or predicts the memory of the authors' code) sets it to False. Both
    give the same values to float32 rounding.
    """

    cpu_form = True

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.eps = eps
        self.fused = True

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            channels_last = x.permute(0, 2, 3, 1)
            if cpu.in_training(self, x):
                y = cpu.LayerNorm.apply(channels_last.contiguous(), self.weight, self.bias, self.eps)
            else:
                y = F.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, self.eps)
            return y.permute(0, 3, 1, 2)
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


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


# --- Spatially-adaptive feature modulation, Section 3.1 --------------------------------------------------------------


def max_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Adaptive max pooling to `size`, the paper's choice: it keeps the most discriminative feature of a region."""
    return F.adaptive_max_pool2d(x, size)


def average_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Adaptive average pooling to `size`."""
    return F.adaptive_avg_pool2d(x, size)


def nearest_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-neighbour sampling to `size`."""
    return F.interpolate(x, size=size, mode="nearest")


def gelu(x: Tensor) -> Tensor:
    """The exact (erf) GELU."""
    return F.gelu(x)


def identity(x: Tensor) -> Tensor:
    """No activation."""
    return x


POOLINGS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "max": max_pool,
    "average": average_pool,
    "nearest": nearest_pool,
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": gelu, "none": identity, "sigmoid": torch.sigmoid}


class SAFM(nn.Module):
    """Multi-scale features of X, aggregated into an attention map that modulates X: Eq. (1)-(3), Figure 4.

    Args:
        dim: channels of X.
        pooling: how Eq. (1) goes down to p / 2^i: "max", "average" or "nearest".
        activation: phi of Eq. (3): "gelu", "none" or "sigmoid".
        multi_scale: False is "w/o MR": one depth-wise convolution at full resolution over all channels.
        aggregation: False is "w/o FA": no 1x1 convolution, Eq. (2) only concatenates.
        modulation: False is "w/o FM": phi(X^) is returned without the product with X.
    """

    cpu_form = True

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
        self.aggr = Conv1x1(dim, dim) if aggregation else nn.Identity()
        self.pool = POOLINGS[pooling]
        self.pools_by_max = pooling == "max"
        self.activation = ACTIVATIONS[activation]
        self.modulation = modulation

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        with ranges.named("channel_splitting"):
            groups = x.chunk(len(self.mfr), dim=1)
        by_level, by_halves, halved = self._aggregates_by_level(x), self._pools_by_halves(x), x
        scales = [self.mfr[0](groups[0])]
        for level in range(1, len(self.mfr)):
            with ranges.named("adaptive_max_pool"):
                if by_halves:
                    halved = cpu.halve_by_max(halved)
                    pooled = halved.chunk(len(self.mfr), dim=1)[level]
                else:
                    pooled = self.pool(groups[level], (height // 2**level, width // 2**level))
            features = self.mfr[level](pooled)
            if not by_level:
                with ranges.named("nearest_interpolation"):
                    features = F.interpolate(features, size=(height, width), mode="nearest")
            scales.append(features)
        aggregated = cpu.aggregate(self.aggr, scales) if by_level else self.aggr(torch.cat(scales, dim=1))
        attention = self.activation(aggregated)
        if not self.modulation:
            return attention
        with ranges.named("product"):
            return attention * x

    def _aggregates_by_level(self, x: Tensor) -> bool:
        """Whether Eq. (2) may be computed by `cpu.aggregate`: nobody watches the module that it goes past."""
        if type(self.aggr) is not Conv1x1 or not self.cpu_form or not cpu.in_training(self.aggr, x):
            return False
        aggr = self.aggr
        watched = aggr._forward_hooks or aggr._forward_pre_hooks or aggr._backward_hooks or aggr._backward_pre_hooks
        return self._halves(x) and not watched

    def _pools_by_halves(self, x: Tensor) -> bool:
        """Whether the maxima of a level may be taken from those of the level before; they have no gradient then."""
        return cpu.without_gradients(self, x) and self.pools_by_max and self._halves(x)

    def _halves(self, x: Tensor) -> bool:
        """Whether there are several levels, of exactly half the size each."""
        return len(self.mfr) > 1 and all(side % 2 ** (len(self.mfr) - 1) == 0 for side in x.shape[-2:])


# --- Channel mixers, Section 3.2 and the CCM rows of Table 3 ---------------------------------------------------------


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


class CCM(nn.Module):
    """Convolutional channel mixer: a 3x3 convolution to twice the channels, GELU, a 1x1 convolution back.

    Args:
        dim: channels in and out.
        expansion: hidden channels / `dim`.
        form: "ccm"; "ccm_se" with squeeze-and-excitation on the hidden channels; "channel_mlp" with 1x1 instead of
            3x3; "inverted_residual" with a further depth-wise 3x3 convolution and GELU on the hidden channels.
    """

    FORMS = ("ccm", "ccm_se", "channel_mlp", "inverted_residual")

    def __init__(self, dim: int, expansion: float = 2.0, form: str = "ccm") -> None:
        super().__init__()
        hidden = int(dim * expansion)
        first = Conv1x1(dim, hidden) if form == "channel_mlp" else Conv2d(dim, hidden, 3, padding=1)
        layers: list[nn.Module] = [first, nn.GELU()]
        if form == "ccm_se":
            layers.append(SqueezeExcitation(hidden))
        if form == "inverted_residual":
            layers += [nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU()]
        layers.append(Conv1x1(hidden, dim))
        self.ccm = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.ccm(x)


# --- The network, Figure 3 -------------------------------------------------------------------------------------------

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer_norm": LayerNorm2d,
    "none": NoNorm,
    "batch_norm": nn.BatchNorm2d,
    "frozen_batch_norm": FrozenBatchNorm2d,
    "l2": L2Norm2d,
}


class FMM(nn.Module):
    """Feature mixing module, Eq. (4): Y = SAFM(LN(X)) + X, Z = CCM(LN(Y)) + Y.

    A branch that is None is left out together with its normalisation ("A -> None" removes A).
    """

    def __init__(
        self, dim: int, norm: Callable[[int], nn.Module], mixer: nn.Module | None, channel_mixer: nn.Module | None
    ) -> None:
        super().__init__()
        if mixer is not None:
            self.norm1 = norm(dim)
            self.safm = mixer
        if channel_mixer is not None:
            self.norm2 = norm(dim)
            self.ccm = channel_mixer
        self.mixes_space = mixer is not None
        self.mixes_channels = channel_mixer is not None

    def forward(self, x: Tensor) -> Tensor:
        if self.mixes_space:
            x = self._residual(x, self.norm1, self.safm)
        if self.mixes_channels:
            x = self._residual(x, self.norm2, self.ccm)
        return x

    @staticmethod
    def _residual(x: Tensor, norm: nn.Module, branch: nn.Module) -> Tensor:
        with ranges.named("layer_norm"):
            normed = norm(x)
        mixed = branch(normed)
        with ranges.named("addition"):
            return mixed + x


class SAFMN(nn.Module):
    """N x 3 x H x W in [0, 1] -> N x 3 x sH x sW, not clamped; H and W of at least 8.

    Args:
        scale: s.
        dim: feature channels (the paper's 36).
        n_blocks: FMMs (the paper's 8; Table 4 varies it).
        expansion: hidden channels of the channel mixer / dim.
        norm: a name in `NORMS` or "package.module:Class", built as Class(dim).
        mixer: "safm", "none" or "package.module:Class", built as Class(dim).
        channel_mixer: a form of `CCM`, "none" or "package.module:Class", built as Class(dim).
        pooling, activation, multi_scale, aggregation, modulation: switches of `SAFM`.
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
        make_norm = NORMS[norm] if norm in NORMS else custom(norm, "norm")

        def make_mixer() -> nn.Module | None:
            if mixer == "none":
                return None
            if mixer == "safm":
                return SAFM(dim, pooling, activation, multi_scale, aggregation, modulation)
            return custom(mixer, "mixer")(dim)

        def make_channel_mixer() -> nn.Module | None:
            if channel_mixer == "none":
                return None
            if channel_mixer in CCM.FORMS:
                return CCM(dim, expansion, channel_mixer)
            return custom(channel_mixer, "channel_mixer")(dim)

        self.smallest_side = SMALLEST_SIDE if mixer == "safm" and multi_scale else 1
        self.to_feat = Conv2d(3, dim, 3, padding=1)
        self.feats = nn.Sequential(*(FMM(dim, make_norm, make_mixer(), make_channel_mixer()) for _ in range(n_blocks)))
        self.to_img = nn.Sequential(Conv2d(dim, 3 * scale**2, 3, padding=1), PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_tracing() and min(x.shape[-2:]) < self.smallest_side:
            raise UserError(
                f"an LR image of {x.shape[-1]}x{x.shape[-2]} pixels is too small for SAFM, which pools to one eighth: "
                f"give at least {self.smallest_side}x{self.smallest_side}"
            )
        features = self.to_feat(x)
        mixed = self.feats(features)
        with ranges.named("addition"):
            features = mixed + features
        return self.to_img(features)


def custom(path: str, switch: str) -> Callable[..., nn.Module]:
    """The class that "package.module:Class" names; UserError where it cannot be imported or is no module."""
    module_name, separator, class_name = path.partition(":")
    if not separator:
        known = {"norm": list(NORMS), "mixer": ["safm", "none"], "channel_mixer": [*CCM.FORMS, "none"]}[switch]
        raise UserError(f"{switch}: {path!r} is not known; choose one of {', '.join(known)} or 'package.module:Class'")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{switch}: {path!r} cannot be imported ({error}); is its package installed?") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(f"{switch}: {path!r} is not a torch.nn.Module class")
    return found
