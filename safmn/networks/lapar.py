"""LAPAR-A (Li et al., NeurIPS 2020): each pixel of the bicubic image gets its own mixture of 72 fixed filters."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.networks.blocks import DIV2K_MEAN, check_side

CHANNELS = 32
BLOCKS = 4
KERNEL = 5

SIGMAS = (0.4, 0.7, 1.1, 1.7)  # pixels, across the filter's long axis
ELONGATION = 2.0  # standard deviation along the long axis / that across it
ORIENTATIONS = 8
DOG_RATIO = 1.6  # the wider Gaussian of a difference, near which it approximates the Laplacian of a Gaussian


def gaussian(sigma: float, elongation: float, angle: float) -> Tensor:
    """Return an elliptical Gaussian, KERNEL x KERNEL, float64, unit sum.

    Args:
        sigma: standard deviation across the long axis, pixels.
        elongation: ratio of the standard deviations along and across.
        angle: of the long axis, radians.
    """
    offsets = torch.arange(KERNEL, dtype=torch.float64) - KERNEL // 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    along = math.cos(angle) * x + math.sin(angle) * y
    across = math.cos(angle) * y - math.sin(angle) * x
    values = torch.exp(-0.5 * ((along / (sigma * elongation)).square() + (across / sigma).square()))
    return values / values.sum()


def dictionary() -> Tensor:
    """Return 36 Gaussians (unit sum) and 36 differences of Gaussians (zero sum): 72 x 1 x 5 x 5.

    Section 2.3 of LAPAR's paper names anisotropic Gaussians and differences of Gaussians of several sizes and
    orientations; the grid above is this project's choice. The authors' weights have their own dictionary as
    `decom_conv.weight`, which replaces this one when they are loaded.
    """
    turned = [(ELONGATION, math.pi * k / ORIENTATIONS) for k in range(ORIENTATIONS)]
    shapes = [(sigma, *shape) for sigma in SIGMAS for shape in [(1.0, 0.0), *turned]]
    gaussians = [gaussian(*shape) for shape in shapes]
    wider = [gaussian(DOG_RATIO * sigma, *shape) for sigma, *shape in shapes]
    differences = [narrow - wide for narrow, wide in zip(gaussians, wider, strict=True)]
    return torch.stack(gaussians + differences).unsqueeze(1).float()


ATOMS = 2 * len(SIGMAS) * (1 + ORIENTATIONS)


class WeightNormConv(nn.Module):
    """A same-size convolution with weight normalisation: a direction `weight_v` times a length `weight_g` a channel.

    Written out for the authors' keys, and because both factors count as parameters.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        initial = nn.Conv2d(inputs, outputs, kernel)
        self.weight_v = nn.Parameter(initial.weight.detach())
        self.weight_g = nn.Parameter(self.lengths().detach())
        self.bias = initial.bias

    def lengths(self) -> Tensor:
        """Return the norm of each output channel's direction: outputs x 1 x 1 x 1."""
        return torch.linalg.vector_norm(self.weight_v, dim=(1, 2, 3), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x inputs x H x W to N x outputs x H x W."""
        weight = self.weight_v * (self.weight_g / self.lengths())
        # A number, since fvcore does not count a convolution with padding="same".
        return F.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)


class Scale(nn.Module):
    """A learnt factor."""

    def __init__(self, initial: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([initial]))

    def forward(self, x: Tensor) -> Tensor:
        """Scale x, of any shape."""
        return x * self.scale


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions with a residual connection; both paths have a learnt factor."""

    def __init__(self) -> None:
        super().__init__()
        self.res_scale = Scale(1.0)
        self.x_scale = Scale(1.0)
        self.body = nn.Sequential(
            WeightNormConv(CHANNELS, CHANNELS, 3), nn.ReLU(inplace=True), WeightNormConv(CHANNELS, CHANNELS, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map N x 32 x H x W to the same shape."""
        return self.res_scale(self.body(x)) + self.x_scale(x)


class LocalFusionBlock(nn.Module):
    """Four residual units in a row; one convolution fuses their outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.b0 = ResidualUnit()
        self.b1 = ResidualUnit()
        self.b2 = ResidualUnit()
        self.b3 = ResidualUnit()
        self.reduction = WeightNormConv(4 * CHANNELS, CHANNELS, 3)
        self.res_scale = Scale(1.0)
        self.x_scale = Scale(1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x 32 x H x W to the same shape."""
        x0 = self.b0(x)
        x1 = self.b1(x0)
        x2 = self.b2(x1)
        x3 = self.b3(x2)
        fused = self.reduction(torch.cat((x0, x1, x2, x3), 1))
        return self.res_scale(fused) + self.x_scale(x)


class Tail(nn.Module):
    """A 3x3 and a 5x5 convolution in parallel, then two 3x3."""

    def __init__(self) -> None:
        super().__init__()
        self.tail_k3 = WeightNormConv(CHANNELS, CHANNELS, 3)
        self.tail_k5 = WeightNormConv(CHANNELS, CHANNELS, 5)
        self.scale_k3 = Scale(0.5)
        self.scale_k5 = Scale(0.5)
        self.fuse = WeightNormConv(CHANNELS, CHANNELS, 3)
        self.w_conv = WeightNormConv(CHANNELS, ATOMS, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x 32 x sH x sW to N x 72 x sH x sW."""
        x = self.scale_k3(self.tail_k3(x)) + self.scale_k5(self.tail_k5(x))
        return self.w_conv(F.relu_(self.fuse(x)))


class WeightNet(nn.Module):
    """Predicts the mixing weights of every output pixel."""

    rgb_mean: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.register_buffer("rgb_mean", torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1))
        self.head = nn.Sequential(WeightNormConv(3, CHANNELS, 3), nn.ReLU(inplace=True))
        self.body = nn.Sequential(*(LocalFusionBlock() for _ in range(BLOCKS)))
        self.up = nn.Sequential(
            WeightNormConv(CHANNELS, CHANNELS * scale**2, 3), nn.ReLU(inplace=True), nn.PixelShuffle(scale)
        )
        self.tail = Tail()

    def forward(self, x: Tensor) -> Tensor:
        """Map RGB in [0, 1], N x 3 x H x W, to mixing weights, N x 72 x sH x sW."""
        return self.tail(self.up(self.body(self.head(x - self.rgb_mean))))


class FilterBank(nn.Module):
    """Filters each plane by each atom of the dictionary, which is not learnt."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", dictionary())

    def forward(self, planes: Tensor) -> Tensor:
        """Map M x 1 x (H + 4) x (W + 4) to M x 72 x H x W."""
        return F.conv2d(planes, self.weight)


class LAPAR(nn.Module):
    """LAPAR-A. Keys are the authors'.

    The filtered images (72 x 3 planes at output size) and their product with the weights exist together: no network of
    Table 2 takes more memory.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.w_conv = WeightNet(scale)
        self.decom_conv = FilterBank()

    def forward(self, x: Tensor) -> Tensor:
        """Upscale RGB in [0, 1], N x 3 x H x W to N x 3 x sH x sW."""
        check_side(x, math.ceil((KERNEL // 2 + 1) / self.scale), "LAPAR-A")  # the rim below is a mirror image
        bicubic = F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False)
        padded = F.pad(bicubic, (KERNEL // 2,) * 4, mode="reflect")
        # A mixture of filters applied to a patch is the same mixture of filtered patches. So the image is filtered
        # first, and no filter is assembled.
        filtered = self.decom_conv(padded.flatten(0, 1).unsqueeze(1)).unflatten(0, (-1, 3))  # N x 3 x 72 x sH x sW
        weights = self.w_conv(x).unsqueeze(1)  # N x 1 x 72 x sH x sW, shared by the colours
        return (weights * filtered).sum(2)
