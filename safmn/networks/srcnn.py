"""SRCNN (Dong et al., TPAMI 2016): three convolutions on the bicubic enlargement of Y."""

from torch import Tensor, nn

from safmn.networks.bicubic import Bicubic


class SRCNN(nn.Module):
    """SRCNN 9-5-5 with 64 and 32 channels (section 4.3.2).

    The input is enlarged first, so the same network serves every scale. The convolutions are padded with zeros to keep
    the output's size; the paper shrinks the image.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.enlarge = Bicubic(scale)
        self.extraction = nn.Conv2d(1, 64, 9, padding=4)
        self.mapping = nn.Conv2d(64, 32, 5, padding=2)
        self.reconstruction = nn.Conv2d(32, 1, 5, padding=2)

    def forward(self, luma: Tensor) -> Tensor:
        """Upscale Y in [0, 1], N x 1 x H x W to N x 1 x sH x sW."""
        features = self.extraction(self.enlarge(luma)).relu()
        return self.reconstruction(self.mapping(features).relu())
