"""EDSR-baseline (Lim et al., CVPRW 2017): residual blocks without batch normalisation.

Attribute names are the authors', so that their files load unchanged.
"""

from torch import Tensor, nn

from safmn.networks.blocks import RangeShift, shift_from_convolutions, upsampler


class Residual(nn.Module):
    """Convolution, ReLU, convolution, skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map N x C x H x W to the same shape."""
        return features + self.body(features)


class EDSR(nn.Module):
    """EDSR-baseline: 16 blocks of 64 channels (section 3.2, table 1).

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
        """Upscale RGB in [0, 1], N x 3 x H x W to N x 3 x sH x sW."""
        features = self.head(self.shift.enter(image))
        return self.shift.leave(self.tail(features + self.body(features)))

    @staticmethod
    def convert_published(state: dict[str, Tensor], scale: int) -> dict[str, Tensor]:
        """Convert the authors' `sub_mean` and `add_mean`, 1x1 convolutions in units of 0-255, to the shift's buffer."""
        return shift_from_convolutions(state, "shift")
