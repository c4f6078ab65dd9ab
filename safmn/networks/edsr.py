"""EDSR-baseline: plain residual blocks without batch normalisation.

Attribute names are the authors', so that their files open as they are.
"""

from torch import Tensor, nn

from safmn.networks.blocks import RangeShift, shift_from_convolutions, upsampler
from safmn.networks.registry import published


class Residual(nn.Module):
    """Convolution, ReLU, convolution, skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.body(features)


@published(
    "edsr_baseline",
    "EDSR-baseline",
    rows={1: "EDSR-baseline", 2: "EDSR-baseline"},
    reference="Lim et al., Enhanced deep residual networks for single image super-resolution, CVPRW 2017",
)
class EDSR(nn.Module):
    """N x 3 x H x W -> N x 3 x sH x sW, RGB in [0, 1]: 16 blocks of 64 channels (section 3.2, table 1).

    Inside, values lie in [0, 255] minus the mean colour, as the published weights expect.
    """

    def __init__(self, scale: int, channels: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.shift = RangeShift()
        self.head = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1))
        self.body = nn.Sequential(
            *(Residual(channels) for _ in range(blocks)), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.tail = nn.Sequential(upsampler(channels, scale), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        features = self.head(self.shift.enter(image))
        return self.shift.leave(self.tail(features + self.body(features)))

    @staticmethod
    def convert_published(state: dict[str, Tensor], scale: int) -> dict[str, Tensor]:
        """The authors keep the mean shift in `sub_mean` and `add_mean`, 1x1 convolutions in units of 0-255."""
        return shift_from_convolutions(state, "shift")
