"""What is known about each network that can be built by name."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from torch import nn


@dataclass(frozen=True)
class Network:
    """One network: a variant of SAFMN (from `ablations/`) or a published baseline (a module of this package).

    Attributes:
        name: the fixed name, as in `safmn list`.
        title: as the paper prints it.
        factory: builds the network for a scale, weights at their initial values.
        scales: the scales that the paper's tables have.
        colour: "RGB" (N x 3 x H x W in and out) or "Y" (N x 1 x H x W in and out), values in [0, 1].
        rows: the paper's row that the network stands for, table number -> row label as printed.
        reference: the paper that defines it.
    """

    name: str
    title: str
    factory: Callable[[int], nn.Module]
    scales: tuple[int, ...] = (2, 3, 4)
    colour: str = "RGB"
    rows: dict[int, str] = field(default_factory=dict)
    reference: str = ""

    @property
    def channels(self) -> int:
        """Channels of its input and output."""
        return {"RGB": 3, "Y": 1}[self.colour]


_published: dict[str, Network] = {}


def published(
    name: str,
    title: str,
    *,
    rows: dict[int, str],
    reference: str,
    scales: tuple[int, ...] = (2, 3, 4),
    colour: str = "RGB",
) -> Callable[[Callable[[int], nn.Module]], Callable[[int], nn.Module]]:
    """Registers the decorated class or function, which takes a scale, as a published network."""

    def register(factory: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
        _published[name] = Network(name, title, factory, scales, colour, rows, reference)
        return factory

    return register


@cache
def published_networks() -> dict[str, Network]:
    """All published networks, by importing every module of this package: to add one is to add a file."""
    import safmn.networks as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_published.items()))
