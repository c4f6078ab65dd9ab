"""Local attribution maps and the diffusion index: Figure 2.

Gu and Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps", CVPR 2021. Written from the
definition. The question is which LR pixels make the texture in a window of SR.

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

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from safmn.errors import UserError
from safmn.inspection.scenes import Scene, Square
from safmn.quality import colour, evaluation

FLAT = 1e-6
"""Magnitude that is added (in squares) where SR has no gradient, so that the detector can be derived there, too."""
AT_ONCE = 8
"""Points of the path that go through the network together."""


@dataclass(frozen=True)
class Attribution:
    """What one network makes of one window.

    Attributes:
        map: h x w float64, the contribution of each LR pixel, summed over colours; may be negative.
        lr: uint8 h x w x 3, the LR pixels that the network saw.
        window: the window in SR pixels of `lr`.
        origin: left and top of `lr` in the whole LR image.
        detector: D(F(LR)).
        baseline: D(F(blurred LR)).
    """

    map: NDArray[np.float64]
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
        """How far the map's sum is from what completeness asks, relative to it; nan where it asks for nothing."""
        asked = self.detector - self.baseline
        return abs(float(self.map.sum()) - asked) / abs(asked) if asked else math.nan


def attribute(
    network: nn.Module,
    scene: Scene,
    channels: str = "RGB",
    window: int = 16,
    patch: int = 64,
    sigma: float = 1.2,
    steps: int = 24,
) -> Attribution:
    """The attribution map of `network` for a window in the middle of the scene's crop, computed where its weights lie.

    Args:
        network: takes and returns N x C x H x W in [0, 1].
        channels: "RGB" or "Y", what the network takes.
        window: side of the window in SR pixels.
        patch: side of the LR image around it that the network sees, or as much as there is.
        sigma: of the blur at the path's start, in LR pixels.
        steps: pieces of the path; the error falls with their square.
    """
    cut = patch_around(scene, patch)
    lr = np.ascontiguousarray(scene.lr[cut])
    left, top = cut[1].start, cut[0].start
    place = middle(scene.crop, window).shifted(left * scene.scale, top * scene.scale)
    below, right = place.top + window, place.left + window  # the next row and column are needed, too
    inside = min(place.left, place.top) >= 0 and below < lr.shape[0] * scene.scale and right < lr.shape[1] * scene.scale
    if window > scene.crop.size or not inside:
        raise UserError(f"a window of {window} pixels does not fit into {scene.image} or its crop: reduce it")
    planes = colour.luma(lr)[None] if channels == "Y" else lr.transpose(2, 0, 1)
    image = planes.astype(np.float64) / 255.0
    device = evaluation.device_of(network)

    def function(points: Tensor) -> Tensor:
        return detector(network(points.to(device)), place)

    with _exact():
        attributions = path_integral(function, lambda at: blurred(image, (1 - at) * sigma, sigma), steps)
        ends = np.stack([blurred(image, sigma, sigma), image])
        with torch.no_grad():
            baseline, value = function(torch.from_numpy(ends).float()).tolist()
    return Attribution(attributions.sum(0), lr, place, (left, top), value, baseline)


def path_integral(
    function: Callable[[Tensor], Tensor], path: Callable[[float], NDArray[np.float64]], steps: int
) -> NDArray[np.float64]:
    """The integral of the gradient of `function` along `path` from 0 to 1, element by element.

    Each of `steps` equal pieces contributes the gradient in its middle times the path's own difference across it, so
    that the differences add up to path(1) - path(0) exactly and a smooth function's error falls with steps squared.

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
    """N x C x H x W -> N: the gradient's magnitude, by differences to the next pixel, summed over window and colours.

    The row below and the column to the right of the window must be there, too.
    """
    rows = slice(window.top, window.top + window.size + 1)
    columns = slice(window.left, window.left + window.size + 1)
    part = sr[..., rows, columns]
    down = part[..., 1:, :-1] - part[..., :-1, :-1]
    right = part[..., :-1, 1:] - part[..., :-1, :-1]
    return (down.square() + right.square() + FLAT**2).sqrt().sum((1, 2, 3))


def blurred(image: NDArray[np.float64], sigma: float, largest: float) -> NDArray[np.float64]:
    """C x H x W blurred by a Gaussian of `sigma` pixels, mirrored at the border; the image itself for 0.

    The kernel reaches as far as that of the `largest` sigma, so that nothing jumps on the way from one to the other.
    """
    reach = math.ceil(4 * largest)
    return gaussian_filter(image, (0, sigma, sigma), radius=(0, reach, reach), mode="reflect")


def diffusion_index(attributions: NDArray) -> float:
    """(1 - Gini coefficient of the absolute values) x 100; nan where all are 0."""
    return (1 - gini(np.abs(attributions).ravel())) * 100


def gini(values: Sequence[float] | NDArray) -> float:
    """The mean absolute difference of all pairs, relative to twice the mean, of values that are not negative.

    0 where all are equal, (n - 1) / n where one of n has everything, nan where nobody has anything. Sorted, so that
    the n² differences need not be formed: the value of rank i is the larger one of i - 1 pairs, the smaller of n - i.
    """
    values = np.sort(np.asarray(values, dtype=np.float64))
    count, total = len(values), float(values.sum())
    if not total > 0:
        return math.nan
    ranks = np.arange(1, count + 1)
    return float(np.dot(2 * ranks - count - 1, values) / (count * total))


def middle(crop: Square, size: int) -> Square:
    """A smaller square in the middle of a crop."""
    margin = (crop.size - size) // 2
    return Square(crop.left + margin, crop.top + margin, size)


def patch_around(scene: Scene, side: int) -> tuple[slice, slice]:
    """Rows and columns of LR, `side` each or all there are, the scene's crop as near to their middle as it goes."""
    found = []
    for start, length in ((scene.crop.top, scene.lr.shape[0]), (scene.crop.left, scene.lr.shape[1])):
        centre = (start + scene.crop.size / 2) / scene.scale
        first = max(0, min(round(centre - side / 2), length - side))
        found.append(slice(first, min(first + side, length)))
    return found[0], found[1]


def _exact():
    """float32 as such and the same sums each time: TF32 and a race for the fastest kernel would differ by run."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
