"""FSRCNN (Dong et al., ECCV 2016): convolutions at the LR size, then a transposed convolution."""

from torch import Tensor, nn


class FSRCNN(nn.Module):
    """FSRCNN(56, 12, 4) of section 3.2."""

    def __init__(self, scale: int, width: int = 56, shrunk: int = 12, depth: int = 4) -> None:
        super().__init__()
        self.extraction = nn.Sequential(nn.Conv2d(1, width, 5, padding=2), nn.PReLU(width))
        self.shrinking = nn.Sequential(nn.Conv2d(width, shrunk, 1), nn.PReLU(shrunk))
        self.mapping = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(shrunk, shrunk, 3, padding=1), nn.PReLU(shrunk)) for _ in range(depth))
        )
        self.expanding = nn.Sequential(nn.Conv2d(shrunk, width, 1), nn.PReLU(width))
        # (H - 1) s - 2 * 4 + 9 + (s - 1) = sH
        self.deconvolution = nn.ConvTranspose2d(width, 1, 9, stride=scale, padding=4, output_padding=scale - 1)

    def forward(self, luma: Tensor) -> Tensor:
        """Upscale Y in [0, 1], N x 1 x H x W to N x 1 x sH x sW."""
        features = self.mapping(self.shrinking(self.extraction(luma)))
        return self.deconvolution(self.expanding(features))
