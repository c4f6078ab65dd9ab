"""ECBSR: trained with several branches a layer, each of them a 3x3 convolution in disguise, deployed as plain layers.

`ECBSR` is the plain network that the paper's tables count, `TrainableECBSR` the network that is trained, and
`plain_state` turns the latter's weights into the former's without changing the output.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.networks.registry import published

MODULES = 16
CHANNELS = 64
EXPANSION = 2  # width of the expand-and-squeeze branch, in multiples of its output channels

SOBEL_X = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
SOBEL_Y = ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0))
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))

Kernel = tuple[Tensor, Tensor]  # weight: outputs x inputs x 3 x 3, bias: outputs


def pointwise_then_3x3(x: Tensor, weight0: Tensor, bias0: Tensor, weight1: Tensor, bias1: Tensor) -> Tensor:
    """A 1x1 and a 3x3 convolution, where the rim between them is what zeros become under the 1x1: its bias.

    Padding the input instead of the intermediate map is what makes the pair equal to one padded 3x3 convolution.
    """
    hidden = F.conv2d(F.pad(x, (1, 1, 1, 1)), weight0, bias0)
    return F.conv2d(hidden, weight1, bias1, groups=weight0.shape[0] // weight1.shape[1])


def merge(weight0: Tensor, bias0: Tensor, weight1: Tensor, bias1: Tensor) -> Kernel:
    """The 3x3 convolution that equals the 1x1 (weight0, bias0) followed by the 3x3 (weight1, bias1)."""
    weight = torch.einsum("omyx,mi->oiyx", weight1, weight0[:, :, 0, 0])
    bias = torch.einsum("omyx,m->o", weight1, bias0) + bias1
    return weight, bias


class ExpandSqueeze(nn.Module):
    """1x1 convolution to twice the outputs, then 3x3 to the outputs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        first = nn.Conv2d(inputs, EXPANSION * outputs, 1)
        second = nn.Conv2d(EXPANSION * outputs, outputs, 3)
        self.k0, self.b0, self.k1, self.b1 = first.weight, first.bias, second.weight, second.bias

    def forward(self, x: Tensor) -> Tensor:
        return pointwise_then_3x3(x, self.k0, self.b0, self.k1, self.b1)

    def kernel(self) -> Kernel:
        return merge(self.k0, self.b0, self.k1, self.b1)


class Edge(nn.Module):
    """1x1 convolution, then a fixed edge filter for each channel, scaled."""

    def __init__(self, inputs: int, outputs: int, stencil: tuple[tuple[float, ...], ...]) -> None:
        super().__init__()
        first = nn.Conv2d(inputs, outputs, 1)
        self.k0, self.b0 = first.weight, first.bias
        self.scale = nn.Parameter(torch.randn(outputs, 1, 1, 1) * 1e-3)
        self.bias = nn.Parameter(torch.randn(outputs) * 1e-3)
        self.register_buffer("mask", torch.tensor(stencil).expand(outputs, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        return pointwise_then_3x3(x, self.k0, self.b0, self.scale * self.mask, self.bias)

    def kernel(self) -> Kernel:
        # A depthwise filter as a full one: its values on the diagonal of outputs x outputs.
        full = torch.diag_embed((self.scale * self.mask)[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
        return merge(self.k0, self.b0, full, self.bias)


class EdgeBlock(nn.Module):
    """Edge-oriented convolution block: the sum of a 3x3 convolution and four branches, then PReLU.

    Without the optional fifth branch, the identity, as the authors configure it.

    Args:
        inputs, outputs: channels.
        activated: whether a PReLU with one slope a channel follows (the last block has none).
    """

    def __init__(self, inputs: int, outputs: int, activated: bool) -> None:
        super().__init__()
        self.conv3x3 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv1x1_3x3 = ExpandSqueeze(inputs, outputs)
        self.conv1x1_sbx = Edge(inputs, outputs, SOBEL_X)
        self.conv1x1_sby = Edge(inputs, outputs, SOBEL_Y)
        self.conv1x1_lpl = Edge(inputs, outputs, LAPLACIAN)
        self.act = nn.PReLU(outputs) if activated else nn.Identity()

    def branches(self) -> tuple[ExpandSqueeze | Edge, ...]:
        return self.conv1x1_3x3, self.conv1x1_sbx, self.conv1x1_sby, self.conv1x1_lpl

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv3x3(x) + sum(branch(x) for branch in self.branches()))

    def kernel(self) -> Kernel:
        """The block without its activation as one 3x3 convolution."""
        weights, biases = zip(*(branch.kernel() for branch in self.branches()), strict=True)
        return self.conv3x3.weight + sum(weights), self.conv3x3.bias + sum(biases)


class PlainBlock(nn.Module):
    """What an EdgeBlock becomes: a 3x3 convolution, then PReLU with one slope a channel."""

    def __init__(self, inputs: int, outputs: int, activated: bool) -> None:
        super().__init__()
        self.conv3x3 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.act = nn.PReLU(outputs) if activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv3x3(x))


class _ECBSR(nn.Module):
    """Both forms. N x 1 x H x W Y in [0, 1] -> N x 1 x sH x sW."""

    block: type[EdgeBlock] | type[PlainBlock]

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            self.block(1, CHANNELS, activated=True),
            *(self.block(CHANNELS, CHANNELS, activated=True) for _ in range(MODULES)),
            self.block(CHANNELS, scale**2, activated=False),
        )
        self.upsampler = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        # The input is added to each of the s^2 maps that become pixels: nearest upsampling as the skip connection.
        return self.upsampler(self.backbone(x) + x)


class TrainableECBSR(_ECBSR):
    """The form that is trained: every 3x3 convolution is an edge-oriented convolution block."""

    block = EdgeBlock


def plain_state(trained: TrainableECBSR) -> dict[str, Tensor]:
    """The state dict of the plain network with the same output (re-parameterisation)."""
    state = {}
    with torch.no_grad():
        for index, block in enumerate(trained.backbone):
            weight, bias = block.kernel()
            state[f"backbone.{index}.conv3x3.weight"] = weight.clone()
            state[f"backbone.{index}.conv3x3.bias"] = bias.clone()
            if isinstance(block.act, nn.PReLU):
                state[f"backbone.{index}.act.weight"] = block.act.weight.clone()
    return state


@published(
    "ecbsr_m16c64",
    "ECBSR-M16C64",
    rows={1: "ECBSR-M16C64"},
    reference="Zhang et al., Edge-oriented Convolution Block for Real-time Super Resolution on Mobile Devices, "
    "ACM MM 2021",
    scales=(2, 4),
    colour="Y",
)
class ECBSR(_ECBSR):
    """The form that is deployed and counted: 18 plain 3x3 convolutions. Reads weights of either form."""

    block = PlainBlock

    @staticmethod
    def convert_published(state: dict[str, Tensor], scale: int) -> dict[str, Tensor]:
        """Re-parameterises weights of the trained form; weights of the plain form pass as they are."""
        if not any(".conv1x1_" in key for key in state):
            return state
        trained = TrainableECBSR(scale)
        trained.load_state_dict(state)
        return plain_state(trained)
