"""ESPCN: works at the LR size and enlarges by a pixel shuffle, which it introduced."""

from torch import Tensor, nn

from safmn.networks.registry import published


@published(
    "espcn",
    "ESPCN",
    rows={1: "ESPCN"},
    reference="Shi et al., Real-time single image and video super-resolution using an efficient sub-pixel "
    "convolutional neural network, CVPR 2016",
    scales=(2, 4),
    colour="Y",
)
class ESPCN(nn.Module):
    """N x 1 x H x W -> N x 1 x sH x sW, Y in [0, 1]: kernels 5, 3, 3 and 64, 32, s^2 channels, tanh (section 3.2)."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 64, 5, padding=2)
        self.second = nn.Conv2d(64, 32, 3, padding=1)
        self.last = nn.Conv2d(32, scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, luma: Tensor) -> Tensor:
        features = self.second(self.first(luma).tanh()).tanh()
        return self.shuffle(self.last(features))
