"""The authors' entry in the NTIRE 2023 challenge on efficient super-resolution (Li et al., CVPRW 2023), team 15.

SAFMN with these changes: no LayerNorm in the blocks, one global response normalisation behind the first convolution
instead; convolutions of the blocks without bias; SAFM pools to 1/4, 1/8 and 1/16; the image enlarged bilinearly is
added to the output in place of the skip connection over the blocks. Keys are the authors'.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.networks.blocks import check_side
from safmn.networks.safmn import CCM, FMM
from safmn.networks.switches import NoNorm

DIM = 36
BLOCKS = 8
LEVELS = 4
SMALLEST_SIDE = 8
EPSILON = 1e-6


class GlobalResponseNorm(nn.Module):
    """Global response normalisation (Woo et al., ConvNeXt V2, CVPR 2023, section 3.3), the identity at first.

    Each channel is scaled by its Euclidean norm over the whole image, divided by the mean of all channels' norms.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, DIM, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, DIM, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, N x 36 x H x W."""
        response = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        relative = response / (response.mean(dim=1, keepdim=True) + EPSILON)
        return self.gamma * (x * relative) + self.beta + x


class Modulation(nn.Module):
    """SAFM, Eq. (1)-(3) of the paper, whose levels 1 to 3 are pooled to 1/4, 1/8 and 1/16."""

    def __init__(self) -> None:
        super().__init__()
        group = DIM // LEVELS
        self.mfr = nn.ModuleList(nn.Conv2d(group, group, 3, padding=1, groups=group, bias=False) for _ in range(LEVELS))
        self.aggr = nn.Conv2d(DIM, DIM, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Modulate x, N x 36 x H x W."""
        height, width = x.shape[-2:]
        groups = x.chunk(LEVELS, dim=1)
        features = [self.mfr[0](groups[0])]
        for level in range(1, LEVELS):
            # At least one position: the authors' code has none for a side below 16.
            size = (max(1, height // 2 ** (level + 1)), max(1, width // 2 ** (level + 1)))
            mixed = self.mfr[level](F.adaptive_max_pool2d(groups[level], size))
            features.append(F.interpolate(mixed, size=(height, width), mode="nearest"))
        return F.gelu(self.aggr(torch.cat(features, dim=1))) * x


def without_biases(dim: int, hidden: int) -> list[nn.Module]:
    """Return the layers of the paper's CCM (section 3.2) without biases."""
    return [nn.Conv2d(dim, hidden, 3, padding=1, bias=False), nn.GELU(), nn.Conv2d(hidden, dim, 1, bias=False)]


def block() -> FMM:
    """Return Eq. (4) of the paper without its normalisations."""
    return FMM(DIM, NoNorm, Modulation(), CCM(DIM, 2.0, without_biases))


class SAFMNNTIRE23(nn.Module):
    """The entry: eight blocks of 36 channels."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.norm = GlobalResponseNorm()
        self.to_feat = nn.Conv2d(3, DIM, 3, padding=1)
        self.feats = nn.Sequential(*(block() for _ in range(BLOCKS)))
        self.to_img = nn.Sequential(nn.Conv2d(DIM, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Upscale RGB in [0, 1], N x 3 x H x W to N x 3 x sH x sW.

        Raises:
            UserError: H or W is below 8.
        """
        check_side(x, SMALLEST_SIDE, "SAFMN (NTIRE 2023), which pools its features")
        enlarged = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.to_img(self.feats(self.norm(self.to_feat(x)))) + enlarged
