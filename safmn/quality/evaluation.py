"""Evaluation of a network on a benchmark: PSNR and SSIM on Y and in RGB, image by image and mean.

Two protocols, and a choice for networks that know only Y:

- `present`, that of every network trained by this project and of the papers since about 2017: the network enlarges the
  benchmark's LR files. SR is clamped and rounded to uint8, HR cropped at the bottom and right to LR size x scale; both
  become Y of MATLAB's YCbCr, not rounded. A network of colour Y (SRCNN, FSRCNN, ESPCN, VDSR, LapSRN, ECBSR) takes the
  unrounded Y of the LR file; its SR Y is clamped and rounded to uint8 and compared with the unrounded Y of HR. For the
  metrics in RGB its picture gets CbCr from LR, enlarged bicubically (see `super_resolve`).
- `legacy`, the one behind the bicubic row of Table 1, and the usual one when those networks were published: HR is
  cropped to a multiple of the scale and becomes Y rounded to uint8; that plane is reduced by MATLAB's bicubic in
  floating point, enlarged (bicubically, or by a network of colour Y), only then rounded to uint8, and compared. LR
  files are not used. The scripts of that time convert only images of three channels to Y: an HR file of a single
  channel (Set14's `bridge`) is measured as it is, grey from 0 to 255 instead of Y from 16 to 235. Only Y is measured.

Images of equal size go through the network together. Means are means of per-image values.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from safmn import files
from safmn.data import colour
from safmn.errors import UserError
from safmn.quality import batched, metrics, perceptual, resampling
from safmn.quality.batches import Batch, Loaded, batches, spread
from safmn.quality.figures import FIGURES

if TYPE_CHECKING:
    import pandas

PROTOCOLS = ("present", "legacy")
BATCH_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 23}
"""HR pixels that go through a network at once. More does not pay on a CPU: the maps fall out of its cache."""


class Pairs(Protocol):
    """A benchmark: what `safmn.data.packed.open_pairs` returns."""

    @property
    def names(self) -> Sequence[str]:
        """The images' names."""

    def __len__(self) -> int: ...

    def lr(self, index: int) -> NDArray[np.uint8]:
        """Return the LR image, uint8 h x w x 3 RGB."""

    def hr(self, index: int) -> NDArray[np.uint8]:
        """Return the HR image, uint8 H x W x 3 RGB, at least LR size x scale."""

    def channels(self, index: int) -> int:
        """Return the channels of the HR file, 1 (grey) or 3; only the legacy protocol needs it."""


@dataclass(frozen=True)
class Score:
    """Quality of one image.

    Attributes:
        image: its name.
        psnr: PSNR on Y in dB.
        ssim: SSIM on Y.
        psnr_rgb: PSNR in RGB in dB; None in the legacy protocol.
        ssim_rgb: SSIM in RGB; None in the legacy protocol.
        lpips: the LPIPS distance (0 for equal images); None without the package `lpips`, or in the legacy protocol.
    """

    image: str
    psnr: float
    ssim: float
    psnr_rgb: float | None = None
    ssim_rgb: float | None = None
    lpips: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Quality on a benchmark: the images' scores in the benchmark's order."""

    scores: tuple[Score, ...]

    @property
    def psnr(self) -> float:
        """Mean of the images' PSNR on Y, in dB."""
        return _mean(score.psnr for score in self.scores)

    @property
    def ssim(self) -> float:
        """Mean of the images' SSIM on Y."""
        return _mean(score.ssim for score in self.scores)

    @property
    def measured(self) -> tuple[str, ...]:
        """The figures of FIGURES that all images have; the first two always."""
        return tuple(
            name for name in FIGURES if name in FIGURES[:2] or all(getattr(s, name) is not None for s in self.scores)
        )

    def mean(self, figure: str) -> float:
        """Return the mean over images of one of `measured`."""
        return _mean(getattr(score, figure) for score in self.scores)

    @property
    def frame(self) -> "pandas.DataFrame":
        """The scores as a data frame, an image a row."""
        import pandas

        rows = [[score.image, *(getattr(score, name) for name in self.measured)] for score in self.scores]
        return pandas.DataFrame(rows, columns=["image", *self.measured])

    def _repr_html_(self) -> str:
        """Show all images, and the means below, in a notebook."""
        frame = self.frame
        frame.loc[len(frame)] = ["mean", *(self.mean(name) for name in self.measured)]
        digits = {name: "{:.3f}" if name.startswith("psnr") else "{:.4f}" for name in self.measured}
        html: str = frame.to_html(index=False, formatters={name: form.format for name, form in digits.items()})
        return html

    @property
    def infinite(self) -> tuple[str, ...]:
        """The images whose SR equals HR, so that their PSNR, and with it the mean, is infinite."""
        return tuple(score.image for score in self.scores if math.isinf(score.psnr))

    @property
    def psnr_of_the_others(self) -> float | None:
        """Mean PSNR in dB of the images whose PSNR is finite; None where there is none."""
        finite = [score.psnr for score in self.scores if math.isfinite(score.psnr)]
        return _mean(finite) if finite else None

    def means(self, suffix: str = "") -> dict[str, float | None]:
        """Return the means for JSON, which has no infinite PSNR: None instead. `suffix` is added to the keys."""
        means = {name: self.mean(name) for name in self.measured}
        return {f"{name}{suffix}": mean if math.isfinite(mean) else None for name, mean in means.items()}


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


def evaluate(
    network: nn.Module | None,
    pairs: Pairs,
    scale: int,
    *,
    channels: str = "RGB",
    protocol: str = "present",
    convert_grey: bool = False,
    batch_pixels: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure PSNR and SSIM on Y of a network on a benchmark, in float32 on the network's device.

    Args:
        network: takes and returns N x C x H x W in [0, 1]; None, in the legacy protocol only, is MATLAB's bicubic.
        pairs: the benchmark.
        scale: also the border in pixels that is cropped before measuring.
        channels: "RGB" or "Y", what the network takes (`safmn.networks.info(name).colour`).
        protocol: "present" or "legacy", see the module.
        convert_grey: in the legacy protocol, single-channel images become Y like the others.
        batch_pixels: HR pixels that go through the network at once; by device where None.
        on_progress: called with (images done, images in all).

    Raises:
        UserError: HR and LR do not fit together, or an image is too small; it names the image.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"there is no protocol {protocol!r}: choose {' or '.join(PROTOCOLS)}")
    if protocol == "present" and network is None:
        raise UserError("without a network only the legacy protocol can be measured: give the network `bicubic`")
    if protocol == "legacy" and network is not None and channels != "Y":
        raise UserError("the legacy protocol is defined on Y alone: evaluate bicubic or a network of colour Y with it")
    if len(pairs) == 0:
        raise UserError("the benchmark has no images: check the folder")
    device = device_of(network)
    limit = batch_pixels or BATCH_PIXELS.get(device.type, 1 << 20)

    distance = perceptual.lpips_distance(device) if protocol == "present" else None

    def load(index: int) -> Loaded:
        if protocol == "legacy":
            return *_legacy_pair(pairs, index, scale, convert_grey), None
        return _present_pair(pairs, index, scale, channels)

    def score(batch: Batch) -> list[tuple[int, Score]]:
        sr = _bicubic_planes(batch.lr, scale) if network is None else run(network, batch.lr.to(device))
        if sr.shape[-2:] != batch.hr.shape[-2:]:
            sizes = [f"{tuple(images.shape[-2:])}" for images in (sr, batch.lr)]
            raise UserError(f"the network makes {sizes[0]} of an image of {sizes[1]}: it is not an x{scale}")
        try:
            psnr, ssim = measure(sr, batch.hr.to(device), scale)
        except UserError as error:
            raise UserError(f"{pairs.names[batch.indices[0]]}: {error}") from error
        columns = [psnr.tolist(), ssim.tolist()]
        if protocol == "present":
            columns += _in_rgb(batch, sr, scale, distance)
        return [
            (index, Score(pairs.names[index], *values)) for index, *values in zip(batch.indices, *columns, strict=True)
        ]

    scores: dict[int, Score] = {}
    with _evaluating(network):
        for results in spread(score, batches(len(pairs), load, limit), device):
            scores.update(results)
            if on_progress is not None:
                on_progress(len(scores), len(pairs))
    return Evaluation(tuple(scores[index] for index in range(len(pairs))))


def convert_grey(scores: Evaluation, network: nn.Module | None, pairs: Any, scale: int) -> Evaluation | None:
    """Return the scores of the legacy protocol with single-channel images converted to Y; None if there are none.

    Args:
        scores: of `evaluate` with the protocol "legacy", where these images are measured as they are.
        network: as for `evaluate`.
        pairs: the benchmark, with a method `select` that returns a part of it (`safmn.data.pairs.Pairs`).
        scale: as for `evaluate`.
    """
    grey = [index for index in range(len(pairs)) if pairs.channels(index) == 1]
    converted = list(scores.scores)
    for index in grey:
        image = pairs.select(slice(index, index + 1))
        (converted[index],) = evaluate(network, image, scale, channels="Y", protocol="legacy", convert_grey=True).scores
    return Evaluation(tuple(converted)) if grey else None


def super_resolve(network: nn.Module, lr: NDArray[np.uint8], channels: str = "RGB") -> NDArray[np.uint8]:
    """Enlarge a picture: uint8 H x W x 3 RGB in and, `scale` times the size, out.

    SR is clamped and rounded. A network of colour Y enlarges Y; Cb and Cr are enlarged by MATLAB's bicubic.
    """
    device = device_of(network)
    if channels != "Y":
        sr = run(network, _planar(lr)[None].to(device))[0]
        return sr.permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    plane = torch.from_numpy(colour.luma(lr))[None, None].to(device)
    return colour.coloured(run(network, plane)[0, 0].cpu().numpy(), lr)


def run(network: nn.Module, images: Tensor) -> Tensor:
    """Return SR of a batch: N x C x H x W with values in [0, 255] in; clamped, whole numbers in float32 out."""
    return forward(network, images).clamp_(0.0, 255.0).round_()


def forward(network: nn.Module, images: Tensor) -> Tensor:
    """Return SR as `run`, neither clamped nor rounded. In eval mode, without gradients, in float32 without TF32."""
    with _evaluating(network), torch.no_grad():
        sr: Tensor = network(images.to(torch.float32) / 255.0)
        return sr.to(torch.float32) * 255.0


def device_of(network: nn.Module | None) -> torch.device:
    """Return the device of the network's weights; the CPU for a network without any."""
    if network is not None:
        for tensor in (*network.parameters(), *network.buffers()):
            return tensor.device
    return torch.device("cpu")


def write_csv(path: Path | str, evaluation: Evaluation) -> None:
    """Write one line `image,psnr,ssim,psnr_rgb,ssim_rgb` an image, and `lpips` where it was measured.

    Each number is the shortest text that reads back as its float64. The legacy protocol ends with `ssim`.
    """
    columns = ["image", *evaluation.measured]
    files.write_csv(path, columns, ({name: getattr(score, name) for name in columns} for score in evaluation.scores))


def fit_pair(lr: NDArray[Any], hr: NDArray[Any], scale: int, name: str) -> NDArray[Any]:
    """Return HR cropped at the bottom and right to LR size x scale.

    Raises:
        UserError: LR was not made of this HR; it names the image.
    """
    height, width = (side * scale for side in lr.shape[:2])
    if not (0 <= hr.shape[0] - height < scale and 0 <= hr.shape[1] - width < scale):
        raise UserError(
            f"{name}: HR of {hr.shape[0]}x{hr.shape[1]} and LR of {lr.shape[0]}x{lr.shape[1]} do not fit at "
            f"x{scale}: LR must be HR's size divided by {scale}, rounded down"
        )
    return hr[:height, :width]


def _present_pair(pairs: Pairs, index: int, scale: int, channels: str) -> Loaded:
    lr = pairs.lr(index)
    hr = fit_pair(lr, pairs.hr(index), scale, pairs.names[index])
    if channels == "Y":
        return torch.from_numpy(colour.luma(lr))[None], torch.from_numpy(colour.luma(hr))[None], (lr, hr)
    return _planar(lr), _planar(hr), None


def _in_rgb(batch: Batch, sr: Tensor, border: int, distance: perceptual.Distance | None) -> list[list[float]]:
    """Return PSNR and SSIM in RGB, and LPIPS where there is a `distance`: a list of N values each."""
    hr = batch.hr.to(sr.device)
    if batch.pictures:
        planes = sr[:, 0].cpu().numpy()
        both = [(colour.coloured(plane, lr), hr) for plane, (lr, hr) in zip(planes, batch.pictures, strict=True)]
        columns = [[metric(*images, border) for images in both] for metric in (metrics.psnr_rgb, metrics.ssim_rgb)]
        sr, hr = (torch.stack([_planar(image) for image in images]).to(sr.device) for images in zip(*both, strict=True))
    else:
        columns = [batched.psnr_rgb(sr, hr, border).tolist(), batched.ssim_rgb(sr, hr, border).tolist()]
    return columns + ([distance(sr, hr).tolist()] if distance else [])


def _legacy_pair(pairs: Pairs, index: int, scale: int, convert_grey: bool) -> tuple[Tensor, Tensor]:
    hr = pairs.hr(index)
    height, width = (side - side % scale for side in hr.shape[:2])
    if not height or not width:
        raise UserError(f"{pairs.names[index]}: HR of {hr.shape[0]}x{hr.shape[1]} is too small for x{scale}: remove it")
    as_it_is = pairs.channels(index) == 1 and not convert_grey
    plane = np.ascontiguousarray(hr[:height, :width, 0]) if as_it_is else colour.luma_uint8(hr[:height, :width])
    return torch.from_numpy(resampling.matlab(plane, 1 / scale).copy())[None], torch.from_numpy(plane)[None]


def _bicubic_planes(lr: Tensor, scale: int) -> Tensor:
    """Enlarge planes N x 1 x H x W of float64 by MATLAB's bicubic, rounded to uint8 only at the end."""
    return torch.stack([torch.from_numpy(resampling.matlab_once(plane.numpy(), scale))[None] for plane in lr[:, 0]])


def _planar(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def measure(sr: Tensor, hr: Tensor, border: int) -> tuple[Tensor, Tensor]:
    """Return PSNR (dB) and SSIM, N values each, of two batches N x 3 (RGB) or N x 1 (Y) x H x W in [0, 255]."""
    first, second = (
        colour.luma_batch(images) if images.shape[1] == 3 else images[:, 0].to(torch.float64) for images in (sr, hr)
    )
    return batched.psnr_planes(first, second, border), batched.ssim_planes(first, second, border)


@contextmanager
def _evaluating(network: nn.Module | None) -> Iterator[None]:
    """Set eval mode and switch TF32 off within the context; restore both afterwards.

    TF32, cuDNN's default for convolutions, would move the third decimal of a PSNR.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    training = [module for module in network.modules() if module.training] if network is not None else []
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    for module in training:
        module.training = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
        for module in training:
            module.training = True
