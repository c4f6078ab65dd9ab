"""SMSR (Wang et al., CVPR 2021): learns which channels and which pixels need computing, and skips the rest.

Each layer of a sparse mask module has two kinds of output channels, fixed after training: *dense* channels are
computed everywhere; *sparse* channels only where the module's spatial mask, predicted from the image, marks a pixel as
important, and are zero elsewhere. The same network has three forms:

- training: soft, differentiable masks, drawn by Gumbel softmax;
- evaluation, dense: binary masks times features that were computed everywhere. This form is counted;
- evaluation, sparse (`sparse = True`): what the masks remove is never computed.

With binary masks, all three have the same output.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.networks.blocks import RangeShift, channel_gate, check_side, children, shift_from_convolutions

CHANNELS = 64
MODULES = 5
LAYERS = 4
NO_CHANNELS: list[int] = []
DENSE, SPARSE = 0, 1  # indices in the last dimension of channel masks and in the second of spatial masks


class ChannelAttention(nn.Module):
    """Channel attention: x times a gate for each channel, from the channels' means."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_du = channel_gate(CHANNELS, CHANNELS // 16)

    def forward(self, x: Tensor) -> Tensor:
        """Map N x 64 x H x W to the same shape."""
        return x * self.conv_du(x.mean((2, 3), keepdim=True))


class ImportantPixels:
    """The indices of sparse convolution: the pixels that a binary mask sets, and which of them are neighbours.

    Features of P important pixels are a C x P matrix, columns in the order of `torch.nonzero`.

    Args:
        mask: N x 1 x H x W of 0 and 1.
    """

    def __init__(self, mask: Tensor) -> None:
        self.shape = mask.shape[0], mask.shape[2], mask.shape[3]
        self.batch, self.row, self.column = mask[:, 0].nonzero(as_tuple=True)
        count = self.batch.numel()
        # Column of each pixel in the matrix, shifted by one: 0 is a column of zeros, for all pixels that are masked out
        # and for the rim outside of the image.
        number = mask.new_zeros(mask.shape, dtype=torch.long)
        number[self.batch, 0, self.row, self.column] = torch.arange(1, count + 1, device=mask.device)
        padded = F.pad(number, (1, 1, 1, 1))[:, 0]
        self.neighbours = torch.stack([padded[self._at(dy, dx)] for dy in range(3) for dx in range(3)])  # 9 x P

    def _at(self, dy: int, dx: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the indices of the neighbour at (dy - 1, dx - 1) in an image padded by one pixel."""
        return self.batch, self.row + dy, self.column + dx

    def patches_of_dense(self, dense: Tensor) -> Tensor:
        """Map N x C x H x W to 9C x P: the 3x3 neighbourhoods of important pixels, ordered as a kernel's C x 3 x 3."""
        padded = F.pad(dense, (1, 1, 1, 1)).permute(0, 2, 3, 1)
        patches = torch.stack([padded[self._at(dy, dx)] for dy in range(3) for dx in range(3)])  # 9 x P x C
        return patches.permute(2, 0, 1).flatten(0, 1)

    def patches_of_sparse(self, sparse: Tensor) -> Tensor:
        """Map C x P to 9C x P; neighbours that are not important are zero."""
        return F.pad(sparse, (1, 0))[:, self.neighbours].flatten(0, 1)

    def scatter(self, sparse: Tensor) -> Tensor:
        """Map C x P to N x C x H x W, zero elsewhere."""
        batch, height, width = self.shape
        dense = sparse.new_zeros(batch, height, width, sparse.shape[0])
        dense[self.batch, self.row, self.column] = sparse.T
        return dense.permute(0, 3, 1, 2)


def positions(mask: Tensor) -> list[int]:
    """Return the indices at which a vector of bool is set."""
    indices: list[int] = mask.nonzero()[:, 0].tolist()
    return indices


def channels(x: Tensor, where: list[int]) -> Tensor:
    """Return the channels `where` of N x C x ...."""
    return x.index_select(1, torch.tensor(where, dtype=torch.long).to(x.device)) if where else x[:, :0]


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve at the same size, without bias; with no input or output channels the result is zero."""
    if weight.numel() == 0:
        return x.new_zeros(x.shape[0], weight.shape[0], *x.shape[2:])
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class SparseMaskBody(nn.Module):
    """Four 3x3 convolutions under a channel mask and a spatial mask, and a 1x1 convolution of all their outputs.

    The masks act on a layer's *outputs*. A sparse channel is zero outside the spatial mask, and its share of a dense
    channel counts only inside.
    """

    def __init__(self) -> None:
        super().__init__()
        # Logits, last dimension (DENSE, SPARSE).
        self.ch_mask = nn.Parameter(torch.rand(1, CHANNELS, LAYERS, 2))
        self.body = nn.Sequential(*(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False) for _ in range(LAYERS)))
        self.collect = nn.Conv2d(CHANNELS * LAYERS, CHANNELS, 1)

    def sparse_channels(self) -> Tensor:
        """Return which outputs of each layer are sparse: LAYERS x CHANNELS of bool, on the CPU."""
        if self.ch_mask.is_meta:
            # No values there, where memory is predicted: take every second channel, the average of new masks.
            return (torch.arange(CHANNELS, device="cpu") % 2 == 1).expand(LAYERS, -1)
        logits = self.ch_mask.detach().cpu()
        return (logits[0, ..., SPARSE] > logits[0, ..., DENSE]).T

    def train_form(self, x: Tensor, spatial: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """Compute with soft masks.

        Args:
            x: features, N x C x H x W.
            spatial: soft spatial mask, N x 1 x H x W.
            tau: temperature of the Gumbel softmax.

        Returns:
            Features, N x C x H x W, and the channel mask, 1 x C x LAYERS x 2.
        """
        channel_mask = F.gumbel_softmax(self.ch_mask, tau, dim=3)
        outputs = []
        dense_before: Tensor | float = 1.0  # the module's input is dense
        sparse_before: Tensor | float = 0.0
        for layer, convolution in enumerate(self.body):
            dense, sparse = (channel_mask[:, :, layer, kind, None, None] for kind in (DENSE, SPARSE))
            from_dense = convolution(x * dense_before) * (dense + sparse * spatial)
            from_sparse = convolution(x * sparse_before) * spatial if layer > 0 else 0.0
            x = (from_dense + from_sparse).relu()
            outputs.append(x)
            dense_before, sparse_before = dense, sparse
        return self.collect(torch.cat(outputs, 1)), channel_mask

    def dense_form(self, x: Tensor, spatial: Tensor) -> Tensor:
        """Compute every feature and apply binary masks: features, N x C x H x W, and a spatial mask, N x 1 x H x W.

        Each layer has the FLOPs of one convolution of all channels. (As activations fvcore counts the outputs of both
        halves; Table 1 gives none for SMSR.)
        """
        outputs = []
        dense_before, sparse_before = list(range(CHANNELS)), NO_CHANNELS
        for convolution, is_sparse in zip(children(self.body, nn.Conv2d), self.sparse_channels(), strict=True):
            from_dense = convolve(channels(x, dense_before), channels(convolution.weight, dense_before))
            from_sparse = convolve(channels(x, sparse_before), channels(convolution.weight, sparse_before))
            masked = is_sparse.view(1, -1, 1, 1).to(x.device)
            x = (torch.where(masked, from_dense * spatial, from_dense) + from_sparse * spatial).relu()
            outputs.append(x)
            dense_before, sparse_before = positions(~is_sparse), positions(is_sparse)
        return self.collect(torch.cat(outputs, 1))

    def sparse_form(self, x: Tensor, spatial: Tensor) -> Tensor:
        """Compute sparse channels only at important pixels; arguments and result as in `dense_form`."""
        pixels = ImportantPixels(spatial)
        dense, sparse = x, x.new_zeros(0, pixels.batch.numel())
        dense_outputs, sparse_outputs = [], []
        dense_before, sparse_before = list(range(CHANNELS)), NO_CHANNELS
        for convolution, is_sparse in zip(children(self.body, nn.Conv2d), self.sparse_channels(), strict=True):
            dense_now, sparse_now = positions(~is_sparse), positions(is_sparse)
            to_dense, to_sparse = convolution.weight[dense_now], convolution.weight[sparse_now]
            # Four kinds of kernels: dense to dense everywhere, the three others at important pixels.
            dense_to_dense = convolve(dense, channels(to_dense, dense_before))
            dense_to_sparse = channels(to_sparse, dense_before).flatten(1) @ pixels.patches_of_dense(dense)
            patches = pixels.patches_of_sparse(sparse)
            sparse_to_dense = channels(to_dense, sparse_before).flatten(1) @ patches
            sparse_to_sparse = channels(to_sparse, sparse_before).flatten(1) @ patches
            dense = (dense_to_dense + pixels.scatter(sparse_to_dense)).relu()
            sparse = (dense_to_sparse + sparse_to_sparse).relu()
            dense_outputs.append(dense)
            sparse_outputs.append(sparse)
            dense_before, sparse_before = dense_now, sparse_now
        is_sparse = self.sparse_channels().flatten()
        dense_kernel, sparse_kernel = (
            channels(self.collect.weight, positions(kind)) for kind in (~is_sparse, is_sparse)
        )
        everywhere = convolve(torch.cat(dense_outputs, 1), dense_kernel) + self.collect.get_parameter("bias").view(
            1, -1, 1, 1
        )
        return everywhere + pixels.scatter(sparse_kernel.flatten(1) @ torch.cat(sparse_outputs))


class SparseMaskModule(nn.Module):
    """Sparse mask module: the predictor of the spatial mask, the body under it, channel attention."""

    def __init__(self) -> None:
        super().__init__()
        quarter = CHANNELS // 4
        # An hourglass: it works at half the resolution, so it is cheaper than the body.
        self.spa_mask = nn.Sequential(
            nn.Conv2d(CHANNELS, quarter, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
            nn.Conv2d(quarter, quarter, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(quarter, 2, 3, stride=2, padding=1, output_padding=1),
        )
        self.body = SparseMaskBody()
        self.ca = ChannelAttention()

    def spatial_mask(self, x: Tensor, tau: float | None = None) -> Tensor:
        """Map N x 64 x H x W to a mask, N x 1 x H x W, 1 for important pixels: soft with `tau`, else binary.

        The hourglass halves and doubles, so an odd last row or column gets no prediction. It is not important, as in
        the authors' code.
        """
        logits = self.spa_mask(x)
        if tau is None:
            mask = (logits[:, SPARSE] > logits[:, DENSE]).to(x.dtype).unsqueeze(1)
        else:
            mask = F.gumbel_softmax(logits, tau, dim=1)[:, SPARSE:]
        return F.pad(mask, (0, x.shape[3] - mask.shape[3], 0, x.shape[2] - mask.shape[2]))


class SMSR(nn.Module):
    """SMSR. Inside, values lie in [0, 255] minus the mean colour. Keys are the authors'.

    Attributes:
        tau: temperature of the Gumbel softmax in training; the authors lower it from 1 during training.
        sparse: whether evaluation uses the sparse form.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.tau = 1.0
        self.sparse = False
        self.shift = RangeShift()
        self.head = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        )
        self.body = nn.Sequential(*(SparseMaskModule() for _ in range(MODULES)))
        self.collect = nn.Sequential(
            nn.Conv2d(CHANNELS * MODULES, CHANNELS, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        )
        self.tail = nn.Sequential(nn.Conv2d(CHANNELS, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Upscale RGB in [0, 1], N x 3 x H x W to N x 3 x sH x sW."""
        return self.forward_with_masks(x)[0]

    def forward_with_masks(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Upscale and return the masks, soft in training (for a sparsity loss), else binary.

        Returns:
            The image, N x 3 x sH x sW; of each module the spatial mask, N x 1 x H x W; and the channel mask,
            LAYERS x CHANNELS, 1 for sparse.
        """
        check_side(x, 2, "SMSR")  # the spatial masks are made at half the resolution
        shifted = self.shift.enter(x)
        shallow = self.head(shifted)
        features, outputs, spatial_masks, channel_masks = shallow, [], [], []
        for module in children(self.body, SparseMaskModule):
            spatial = module.spatial_mask(features, self.tau if self.training else None)
            if self.training:
                result, channel_mask = module.body.train_form(features, spatial, self.tau)
                channel_mask = channel_mask[0, ..., SPARSE].T
            else:
                compute = module.body.sparse_form if self.sparse else module.body.dense_form
                result, channel_mask = compute(features, spatial), module.body.sparse_channels().to(x.dtype)
            features = module.ca(result) + features
            outputs.append(features)
            spatial_masks.append(spatial)
            channel_masks.append(channel_mask)
        deep = self.collect(torch.cat(outputs, 1)) + shallow
        skip = F.interpolate(shifted, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return self.shift.leave(self.tail(deep) + skip), spatial_masks, channel_masks

    def counted_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that #Params of Table 1 counts: all but the channel masks."""
        return (parameter for key, parameter in self.named_parameters() if not key.endswith("ch_mask"))

    @staticmethod
    def convert_published(state: dict[str, Tensor], scale: int) -> dict[str, Tensor]:
        """Convert the authors' `sub_mean` and `add_mean`, 1x1 convolutions in units of 0-255, to the shift's buffer."""
        return shift_from_convolutions(state, "shift")
