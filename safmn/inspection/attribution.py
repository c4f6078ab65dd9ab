"""Local attribution maps and the diffusion index: Figure 2.

Gu and Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps", CVPR 2021; written from the
definition. The question is which LR pixels contribute to the texture in a window of SR.

- *Detector* D (their gradient detector): the sum of the magnitude of SR's gradient over the window.
- *Path* from an input without texture to the input itself: gamma(a) is LR blurred by a Gaussian of (1 - a) sigma.
- *Map*: the path integral of the gradient of D(F(gamma(a))) along gamma, pixel by pixel. Summed over all pixels it is
  D(F(LR)) - D(F(blurred LR)), the completeness of integrated gradients (Sundararajan et al., ICML 2017).
- *Diffusion index*: (1 - G) x 100, G the Gini coefficient of the absolute map. 0: one pixel does everything; 100: all
  pixels contribute alike. It grows with the range of pixels that are used, and depends on the size of the LR image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from safmn.data import colour
from safmn.errors import UserError
from safmn.inspection.scenes import Scene, Square
from safmn.quality import evaluation

FLAT = 1e-6
"""Magnitude that is added (in squares), so that the detector has a derivative where SR has no gradient."""
AT_ONCE = 8
"""Points of the path that go through the network together."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """The contributions of LR pixels to one window of SR.

    Attributes:
        map: h x w float64, the contribution of each LR pixel, summed over colours; may be negative.
        lr: uint8 h x w x 3, the LR pixels that the network saw.
        window: the window in SR pixels of `lr`.
        origin: left and top of `lr` in the whole LR image.
        detector: D(F(LR)).
        baseline: D(F(blurred LR)).
    """

    map: Array
    lr: NDArray[np.uint8]
    window: Square
    origin: tuple[int, int]
    detector: float
    baseline: float

    @property
    def diffusion_index(self) -> float:
        """In [0, 100]; nan where no pixel contributes anything."""
        return diffusion_index(self.map)

    @property
    def gap(self) -> float:
        """Relative distance of the map's sum from what completeness demands; nan where that is 0."""
        expected = self.detector - self.baseline
        return abs(float(self.map.sum()) - expected) / abs(expected) if expected else math.nan


def attribute(
    network: nn.Module,
    scene: Scene,
    channels: str = "RGB",
    window: int = 16,
    patch: int = 64,
    sigma: float = 1.2,
    steps: int = 24,
) -> Attribution:
    """Compute the attribution map for a window in the middle of the scene's crop, on the network's device.

    Args:
        network: takes and returns N x C x H x W in [0, 1].
        scene: where to look.
        channels: "RGB" or "Y", what the network takes.
        window: side of the window in SR pixels.
        patch: side of the LR image around it that the network gets, or as much as there is.
        sigma: of the blur at the path's start, in LR pixels.
        steps: pieces of the path; the error falls with their square.

    Raises:
        UserError: the window does not fit into the crop or the patch.
    """
    cut = patch_around(scene, patch)
    lr = np.ascontiguousarray(scene.lr[cut])
    left, top = cut[1].start, cut[0].start
    place = middle(scene.crop, window).shifted(left * scene.scale, top * scene.scale)
    below, right = place.top + window, place.left + window  # the detector needs the next row and column, too
    inside = min(place.left, place.top) >= 0 and below < lr.shape[0] * scene.scale and right < lr.shape[1] * scene.scale
    if window > scene.crop.size or not inside:
        raise UserError(f"a window of {window} pixels does not fit into {scene.image} or its crop: reduce it")
    planes = colour.luma(lr)[None] if channels == "Y" else lr.transpose(2, 0, 1)
    image = planes.astype(np.float64) / 255.0
    device = evaluation.device_of(network)

    def function(points: Tensor) -> Tensor:
        return detector(network(points.to(device)), place)

    # Float32 as it is and the same sums each time: TF32, and a choice of the fastest kernel, would differ by run.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        attributions = path_integral(function, lambda at: blurred(image, (1 - at) * sigma, sigma), steps)
        ends = np.stack([blurred(image, sigma, sigma), image])
        with torch.no_grad():
            baseline, value = function(torch.from_numpy(ends).float()).tolist()
    return Attribution(attributions.sum(0), lr, place, (left, top), value, baseline)


def path_integral(function: Callable[[Tensor], Tensor], path: Callable[[float], Array], steps: int) -> Array:
    """Integrate the gradient of `function` along `path` from 0 to 1, element by element.

    Each of `steps` equal pieces contributes the gradient in its middle times the path's own difference across it. So
    the differences add up to path(1) - path(0) exactly, and a smooth function's error falls with steps squared.

    Args:
        function: N x ... float32 -> N values, each depending on its own point only.
        path: a in [0, 1] -> the point there, float64.
        steps: at least 1.

    Returns:
        float64 of a point's shape.
    """
    ends = [path(step / steps) for step in range(steps + 1)]
    total = np.zeros_like(ends[0])
    for start in range(0, steps, AT_ONCE):
        chosen = range(start, min(start + AT_ONCE, steps))
        points = torch.from_numpy(np.stack([path((step + 0.5) / steps) for step in chosen])).float()
        points.requires_grad_(True)
        (gradients,) = torch.autograd.grad(function(points).sum(), points)
        for step, gradient in zip(chosen, gradients.double().cpu().numpy(), strict=True):
            total += gradient * (ends[step + 1] - ends[step])
    return total


def detector(sr: Tensor, window: Square) -> Tensor:
    """Sum the gradient's magnitude, by differences to the next pixel, over window and colours: N x C x H x W -> N.

    The row below and the column to the right of the window must exist, too.
    """
    rows = slice(window.top, window.top + window.size + 1)
    columns = slice(window.left, window.left + window.size + 1)
    part = sr[..., rows, columns]
    down = part[..., 1:, :-1] - part[..., :-1, :-1]
    right = part[..., :-1, 1:] - part[..., :-1, :-1]
    return (down.square() + right.square() + FLAT**2).sqrt().sum((1, 2, 3))


def blurred(image: Array, sigma: float, max_sigma: float) -> Array:
    """Blur C x H x W by a Gaussian of `sigma` pixels, mirrored at the border; 0 gives the image itself.

    The kernel reaches as far as that of `max_sigma`, so that nothing jumps on the way from one to the other.
    """
    reach = math.ceil(4 * max_sigma)
    filtered: Array = gaussian_filter(image, (0, sigma, sigma), radius=(0, reach, reach), mode="reflect")
    return filtered


def diffusion_index(attributions: NDArray[Any]) -> float:
    """Compute (1 - Gini coefficient of the absolute values) x 100; nan where all are 0."""
    return (1 - gini(np.abs(attributions).ravel())) * 100


def gini(values: Sequence[float] | NDArray[Any]) -> float:
    """Compute the mean absolute difference of all pairs, relative to twice the mean, of values that are not negative.

    0 where all are equal, (n - 1) / n where one of n has everything, nan where all are 0. In sorted order the n²
    differences need not be formed: the value of rank i is the larger one of i - 1 pairs, the smaller of n - i.
    """
    values = np.sort(np.asarray(values, dtype=np.float64))
    count, total = len(values), float(values.sum())
    if not total > 0:
        return math.nan
    ranks = np.arange(1, count + 1)
    return float(np.dot(2 * ranks - count - 1, values) / (count * total))


def middle(crop: Square, size: int) -> Square:
    """Return a smaller square in the middle of a crop."""
    margin = (crop.size - size) // 2
    return Square(crop.left + margin, crop.top + margin, size)


def patch_around(scene: Scene, side: int) -> tuple[slice, slice]:
    """Return rows and columns of LR, `side` each or all there are, the crop as near to their middle as possible."""

    def span(start: int, length: int) -> slice:
        centre = (start + scene.crop.size / 2) / scene.scale
        first = max(0, min(round(centre - side / 2), length - side))
        return slice(first, min(first + side, length))

    return span(scene.crop.top, scene.lr.shape[0]), span(scene.crop.left, scene.lr.shape[1])
