"""VDSR (Kim et al., CVPR 2016): twenty convolutions that predict the residual of the bicubic enlargement of Y."""

from torch import Tensor, nn

from safmn.networks.bicubic import Bicubic


class VDSR(nn.Module):
    """VDSR: 3x3 convolutions of 64 channels without bias (section 3.1).

    The input is enlarged first, so the same network serves every scale, as in the paper.
    """

    def __init__(self, scale: int, channels: int = 64, depth: int = 20) -> None:
        super().__init__()
        self.enlarge = Bicubic(scale)
        self.input = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.middle = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(depth - 2))
        self.output = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        for convolution in (self.input, *self.middle, self.output):
            # He's initialisation (section 3.2): with torch's default the signal fades over 20 layers.
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")

    def forward(self, luma: Tensor) -> Tensor:
        """Upscale Y in [0, 1], N x 1 x H x W to N x 1 x sH x sW."""
        enlarged = self.enlarge(luma)
        features = self.input(enlarged).relu()
        for convolution in self.middle:
            features = convolution(features).relu()
        return enlarged + self.output(features)

    @staticmethod
    def convert_published(state: dict[str, Tensor], scale: int) -> dict[str, Tensor]:
        """Convert the keys of the common PyTorch version, `residual_layer.{i}.conv.weight`."""
        return {
            f"middle.{key.split('.')[1]}.weight" if key.startswith("residual_layer.") else key: tensor
            for key, tensor in state.items()
        }
