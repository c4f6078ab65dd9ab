"""SRCNN: three convolutions on the bicubic enlargement of Y."""

from torch import Tensor, nn

from safmn.networks.bicubic import Bicubic
from safmn.networks.registry import published


@published(
    "srcnn",
    "SRCNN",
    rows={1: "SRCNN"},
    reference="Dong et al., Image super-resolution using deep convolutional networks, TPAMI 2016",
    colour="Y",
)
class SRCNN(nn.Module):
    """N x 1 x H x W -> N x 1 x sH x sW, Y in [0, 1]: the 9-5-5 setting with 64 and 32 channels (section 4.3.2).

    The same network serves every scale: the input is enlarged first, so all its work is done at the output's size. The
    convolutions are padded with zeros to keep that size, where the paper shrinks the image.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.enlarge = Bicubic(scale)
        self.extraction = nn.Conv2d(1, 64, 9, padding=4)
        self.mapping = nn.Conv2d(64, 32, 5, padding=2)
        self.reconstruction = nn.Conv2d(32, 1, 5, padding=2)

    def forward(self, luma: Tensor) -> Tensor:
        features = self.extraction(self.enlarge(luma)).relu()
        return self.reconstruction(self.mapping(features).relu())
