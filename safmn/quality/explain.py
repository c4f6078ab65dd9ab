"""Why does my number differ from the published one? The same network measured under one deviation at a time."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from safmn.data import colour, images, layouts, packed, pairs
from safmn.errors import UserError
from safmn.layout import INDEX
from safmn.quality import evaluation, metrics
from safmn.quality.deviations import SWITCHES, Array, Recipe, Source, Switch


@dataclass
class Figures:
    """PSNR (dB) and SSIM of each image under one recipe, or why there are none."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    obstacle: str = ""

    def mean(self, metric: str, mean_error: bool = False) -> float | None:
        """Return the cell: the mean over images, or the PSNR of the images' mean squared error."""
        values: list[float] = getattr(self, metric)
        if self.obstacle or not values:
            return None
        if mean_error:
            errors = [metrics.PEAK**2 / 10 ** (value / 10) for value in values]
            return metrics.psnr_of_error(math.fsum(errors) / len(errors))
        return math.fsum(values) / len(values)


class Measurement:
    """The cell under the protocol and under every switch, to be compared with published numbers.

    Args:
        networks: name -> network; "given" is the one in question, others are alternatives that become switches.
        channels: "RGB" or "Y", what they take.
        scale: enlargement.
        bicubic: the network has no weights, so that the legacy protocol applies to it as it does to a Y network.
    """

    def __init__(self, networks: Mapping[str, nn.Module], channels: str, scale: int, *, bicubic: bool = False) -> None:
        self.networks, self.channels, self.scale, self.bicubic = networks, channels, scale, bicubic
        kinds = {channels, "Y"} if bicubic else {channels}
        applicable = [switch for switch in SWITCHES if kinds & set(switch.channels)]
        self.switches = (*applicable, *_weight_switches(networks))
        self.recipes = {"standard": Recipe()} | {switch.name: switch.recipe for switch in self.switches}
        self.figures = {name: Figures() for name in self.recipes}
        self.grey_files = False

    @property
    def passes(self) -> list[list[str]]:
        """The names of the recipes, grouped by what the network has to enlarge; the protocol's group is the first."""
        groups: dict[Any, list[str]] = {}
        for name, recipe in self.recipes.items():
            key = (recipe.weights, recipe.ensemble, recipe.reduce, recipe.legacy)
            groups.setdefault(key, []).append(name)
        return list(groups.values())

    def add(self, source: Source, names: Iterable[str] | None = None) -> None:
        """Measure one image under every recipe, or under those named. Neither images nor SR are kept."""
        enlarged: dict[Any, Array] = {}
        self.grey_files |= source.channels == 1
        for name in self.recipes if names is None else names:
            recipe, figures = self.recipes[name], self.figures[name]
            if figures.obstacle:
                continue
            try:
                psnr, ssim = self._measure(source, recipe, enlarged)
            except (UserError, ValueError) as error:
                if name == "standard":
                    raise UserError(f"{source.name}: {error}") from error
                figures.obstacle = f"{source.name}: {error}"
                continue
            figures.psnr.append(psnr)
            figures.ssim.append(ssim)

    def _measure(self, source: Source, recipe: Recipe, enlarged: dict[Any, Array]) -> tuple[float, float]:
        if recipe.legacy:
            network = None if self.bicubic else self.networks["given"]
            convert = not recipe.grey_as_it_is
            score = evaluation.evaluate(
                network, _One(source), self.scale, channels="Y", protocol="legacy", convert_grey=convert
            )
            return score.psnr, score.ssim
        lr, hr = recipe.crop(source, self.scale)
        if recipe.reduce is not None:
            lr = recipe.reduce(hr, self.scale)
        as_it_is = recipe.grey_as_it_is and source.channels == 1
        # A network of colour Y then gets the grey values in place of Y.
        plane = lr[..., 0] if as_it_is else colour.luma(lr)
        planes = plane[None] if self.channels == "Y" else lr.transpose(2, 0, 1)
        # Recipes that differ in what comes after the network, or in nothing for this image, share its output.
        key = (recipe.weights, recipe.ensemble, planes.shape, hashlib.sha256(planes.tobytes()).digest())
        if key not in enlarged:
            enlarged[key] = _enlarge(self.networks[recipe.weights], planes, recipe.ensemble)
        sr = recipe.rounding(enlarged[key][: hr.shape[0], : hr.shape[1]])
        border = recipe.border[0] * self.scale + recipe.border[1]

        def compared(plane: Callable[[Array], Array]) -> list[Array]:
            both = _grey_planes(sr, hr) if as_it_is else _planes(sr, hr, plane)
            return [_inside(image, border) for image in both]

        first, second = compared(recipe.plane)
        metrics.check_sizes(first.shape[:2], second.shape[:2], 0, metrics.WINDOW)
        psnr = metrics.psnr_plane(first, second)
        if recipe.ssim_plane is not None:
            first, second = compared(recipe.ssim_plane)
        if first.ndim == 3:
            return psnr, float(np.mean([recipe.ssim(first[..., c], second[..., c]) for c in range(3)]))
        return psnr, recipe.ssim(first, second)

    def leave_out(self, names: Iterable[str], reason: str) -> None:
        """Note why some recipes are not measured."""
        for name in names:
            self.figures[name].obstacle = reason

    def explain(self, published: str, metric: str = "psnr") -> "Explanation":
        """Compare a published number, as printed, with the cell under each switch; `metric` is "psnr" or "ssim"."""
        number, tolerance = parse_printed(published)
        standard = self.figures["standard"].mean(metric)
        if standard is None:
            raise UserError("nothing has been measured: the benchmark has no images")
        rows = []
        for switch in self.switches:
            if metric not in switch.metrics or (switch.grey_files and not self.grey_files):
                continue
            figures = self.figures[switch.name]
            value = figures.mean(metric, switch.recipe.mean_error)
            rows.append(Row(switch.name, switch.what, value, figures.obstacle))

        def distance(row: Row) -> tuple[float, float]:
            # Of two that come equally close, the one that changes less is listed first.
            if row.value is None:
                return math.inf, 0
            return round(abs(row.value - number), 9), abs(row.value - standard)

        return Explanation(published, metric, number, tolerance, standard, tuple(sorted(rows, key=distance)))


@dataclass(frozen=True)
class Row:
    """The cell under one switch; `value` is None where it does not apply, for the reason in `obstacle`."""

    name: str
    what: str
    value: float | None
    obstacle: str = ""


@dataclass(frozen=True)
class Explanation:
    """A published number beside the cell under the protocol and under each switch, nearest first.

    Attributes:
        published: as printed.
        metric: "psnr" (dB) or "ssim".
        number: the printed number.
        tolerance: half a unit of its last digit: two numbers within it are equal as published.
        standard: the cell under the protocol.
        rows: the cell under each switch.
    """

    published: str
    metric: str
    number: float
    tolerance: float
    standard: float
    rows: tuple[Row, ...]

    def lines(self, names: Iterable[str]) -> list[str]:
        """Return a line for each of these switches that has a value: measured, and what is left over."""
        unit, digits = (" dB", 4) if self.metric == "psnr" else ("", 5)
        values = {"standard": self.standard} | {row.name: row.value for row in self.rows}
        return [
            f"{name}: {value:.{digits}f}{unit}, {value - self.number:+.{digits}f} from the published value"
            for name in names
            if (value := values.get(name)) is not None
        ]

    def equal(self, value: float | None) -> bool:
        """Return whether a value agrees with the published number at its precision."""
        return value is not None and abs(value - self.number) <= self.tolerance

    @property
    def closing(self) -> tuple[str, ...]:
        """Names of the switches that close the gap, nearest first; none where there is no gap."""
        return () if self.equal(self.standard) else tuple(row.name for row in self.rows if self.equal(row.value))

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.equal(self.standard):
            return f"The protocol itself gives {self.published}: there is nothing to explain."
        if len(self.closing) == 1:
            return f"One switch closes the gap: {self.closing[0]}."
        if self.closing:
            return (
                f"Each of these closes the gap alone: {', '.join(self.closing)}; print more digits to tell them apart."
            )
        gaps = [(row.name, row.value - self.number) for row in self.rows if row.value is not None]
        if not gaps or abs(gaps[0][1]) >= abs(self.standard - self.number):
            return "No single switch closes the gap, and none brings the number nearer."
        return f"No single switch closes the gap; {gaps[0][0]} comes nearest, {gaps[0][1]:+.4f} left."


def _weight_switches(names: Iterable[str]) -> tuple[Switch, ...]:
    """Return a switch for each file beside the given one, named by as much of its path as tells them apart."""
    others = [name for name in names if name != "given"]
    short = [Path(name).name for name in others]
    return tuple(
        Switch(f"weights {brief if short.count(brief) == 1 else name}", f"weights {name} instead", Recipe(weights=name))
        for brief, name in zip(short, others, strict=True)
    )


def parse_printed(text: str) -> tuple[float, float]:
    """Return a printed number and half a unit of its last digit: "32.21" -> (32.21, 0.005).

    Raises:
        UserError: the text is not a number.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not (number.is_finite() and abs(number.adjusted()) < 10):
        raise UserError(f"published number {text!r} is not a number: give it as printed, such as 32.21")
    # A hair more than half a unit, since 32.215 has no exact float64.
    return float(number), 0.5 * 10.0 ** int(number.as_tuple().exponent) + 1e-9


def read_sources(data: Path | str, scale: int) -> Sequence[Callable[[], Source]]:
    """Return a function for each image of a benchmark that reads it; UserError where the folder cannot be used.

    From a folder HR comes as its file is; a packed dataset has it cropped, so that crops make less difference.
    """
    folder = Path(data)
    if folder.is_dir() and not (folder / INDEX).is_file():
        return [lambda pair=pair: _read_source(pair, scale) for pair in layouts.survey(folder, scale).pairs]  # type: ignore[misc]
    dataset = packed.open_pairs(folder, scale)
    return [
        lambda i=i: Source(dataset.names[i], dataset.lr(i), dataset.hr(i), dataset.channels(i), dataset.doubt(i))  # type: ignore[misc]
        for i in range(len(dataset))
    ]


def _read_source(pair: pairs.Pair, scale: int) -> Source:
    loaded = pairs.load(pair, scale)
    return Source(pair.name, loaded.lr, images.read(pair.hr), loaded.channels, loaded.doubt)


class _One:
    """A benchmark of one image, see `evaluation.Pairs`."""

    def __init__(self, source: Source) -> None:
        self.source, self.names = source, [source.name]

    def __len__(self) -> int:
        return 1

    def lr(self, index: int) -> NDArray[np.uint8]:
        return self.source.lr

    def hr(self, index: int) -> NDArray[np.uint8]:
        return self.source.hr

    def channels(self, index: int) -> int:
        return self.source.channels


def _enlarge(network: nn.Module, planes: Array, ensemble: bool) -> NDArray[np.float64]:
    """Return SR in [0, 255] of C x h x w, neither clamped nor rounded: H x W x 3, or H x W where C is 1."""
    batch = torch.from_numpy(np.ascontiguousarray(planes))[None].to(evaluation.device_of(network))
    views = [(turns, mirror) for turns in range(4) for mirror in (False, True)] if ensemble else [(0, False)]
    total: torch.Tensor | None = None
    for turns, mirror in views:
        view = torch.rot90(batch, turns, (2, 3))
        out = evaluation.forward(network, view.flip(3) if mirror else view).to(torch.float64)
        out = torch.rot90(out.flip(3) if mirror else out, -turns, (2, 3))
        total = out if total is None else total + out
    assert total is not None
    sr: NDArray[np.float64] = (total / len(views))[0].cpu().numpy()
    return sr[0] if len(sr) == 1 else sr.transpose(1, 2, 0)


def _grey_planes(sr: Array, hr: Array) -> tuple[Array, Array]:
    """Return SR and HR of a grey picture in 0 to 255; the colours that a network adds to SR are averaged away."""
    return (sr if sr.ndim == 2 else sr.astype(np.float64).mean(2)), hr[..., 0]


def _planes(sr: Array, hr: Array, plane: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Return the planes that are compared. SR of a Y network is a plane already; it can only be rounded."""
    if sr.ndim == 2:
        return (colour.round_uint8(sr) if plane is colour.luma_uint8 else sr), plane(hr)
    return plane(sr), plane(hr)


def _inside(plane: Array, border: int) -> NDArray[np.float64]:
    return plane[border : plane.shape[0] - border, border : plane.shape[1] - border].astype(np.float64)
