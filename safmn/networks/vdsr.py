"""VDSR: twenty convolutions that predict what the bicubic enlargement of Y lacks."""

from torch import Tensor, nn

from safmn.networks.bicubic import Bicubic
from safmn.networks.registry import published


@published(
    "vdsr",
    "VDSR",
    rows={1: "VDSR"},
    reference="Kim, Lee and Lee, Accurate image super-resolution using very deep convolutional networks, CVPR 2016",
    colour="Y",
)
class VDSR(nn.Module):
    """N x 1 x H x W -> N x 1 x sH x sW, Y in [0, 1]: 3x3 convolutions of 64 channels, no bias (section 3.1).

    One network serves every scale, as in the paper: the input is enlarged first.
    """

    def __init__(self, scale: int, channels: int = 64, depth: int = 20) -> None:
        super().__init__()
        self.enlarge = Bicubic(scale)
        self.input = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.middle = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(depth - 2))
        self.output = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        for convolution in (self.input, *self.middle, self.output):
            # He's initialisation, as section 3.2 asks for: nothing else keeps the signal alive through 20 layers.
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")

    def forward(self, luma: Tensor) -> Tensor:
        enlarged = self.enlarge(luma)
        features = self.input(enlarged).relu()
        for convolution in self.middle:
            features = convolution(features).relu()
        return enlarged + self.output(features)

    @staticmethod
    def convert_published(state: dict[str, Tensor], scale: int) -> dict[str, Tensor]:
        """Keys of the common PyTorch version, `residual_layer.{i}.conv.weight`, once saved as a plain state dict."""
        return {
            f"middle.{key.split('.')[1]}.weight" if key.startswith("residual_layer.") else key: tensor
            for key, tensor in state.items()
        }
