"""Training of a network of colour Y: it sees Y alone, converted as evaluation converts it."""

from collections.abc import Callable

from torch import Tensor

from safmn.data import colour
from safmn.data.patches import Batch, PatchSampler


def batches(sampler: PatchSampler, of: str) -> Callable[[int], Batch]:
    """Return a function from an iteration to its batch, LR and HR, in the colour that a network takes.

    Args:
        sampler: draws them.
        of: "RGB" or "Y", the colour of the network.
    """
    if of == "RGB":
        return sampler.batch

    def batch(iteration: int) -> Batch:
        lr, hr = sampler.batch(iteration)
        return planes(lr), planes(hr)

    return batch


def planes(images: Tensor) -> Tensor:
    """Compute Y of a batch, uint8 N x 3 x H x W: N x 1 x H x W on its device, 16 to 235, not rounded.

    In float64: the training step makes [0, 1] in float32 of it, by the same operations as evaluation does.
    """
    return colour.luma_batch(images)[:, None]
