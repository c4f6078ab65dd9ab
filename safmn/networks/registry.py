"""What is known about each network that can be built by name; imports no torch, so that listing them is fast."""

import csv
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""The name of a network: a rule's, a folder's and a row's."""
SAFMN = "safmn.networks.safmn:SAFMN"
"""The code of the paper's network, whose switches make the variants of Tables 3 and 4."""
RETRAINED = "_retrained"
"""What the row of a published network that a study trains itself has behind the network's name."""


@dataclass(frozen=True)
class Network:
    """One network: a variant (from `ablations/`), a published network (a module of this package) or a user's own.

    Attributes:
        name: the fixed name, as in `safmn list`.
        title: the name in the paper's tables.
        factory: builds the network for a scale, weights at their initial values.
        scales: the scales that the paper's tables have.
        colour: "RGB" (N x 3 x H x W in and out) or "Y" (N x 1 x H x W in and out), values in [0, 1].
        rows: the paper's row that the network stands for, table number -> row label as printed.
        reference: the paper that defines it.
        code: the class or function that is built, as "module:name".
        arguments: what it is built with besides the scale.
        file: the YAML file that defines it, whose folder may hold its module; None for a network of this package.
        in_all: whether a study's "all" takes it.
    """

    name: str
    title: str
    factory: "Callable[[int], nn.Module]"
    scales: tuple[int, ...] = (2, 3, 4)
    colour: str = "RGB"
    rows: dict[int, str] = field(default_factory=dict)
    reference: str = ""
    code: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    in_all: bool = True

    @property
    def is_own(self) -> bool:
        """Whether a user's file names a class in place of SAFMN."""
        return self.file is not None and self.code != SAFMN

    @property
    def channels(self) -> int:
        """Channels of its input and output."""
        return {"RGB": 3, "Y": 1}[self.colour]


@cache
def published_networks() -> dict[str, Network]:
    """Read `published_networks.csv`, a network a line: those of Tables 1 and 2, and the authors' later ones."""
    networks = {}
    with open(Path(__file__).with_name("published_networks.csv"), encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            name, title, code = line["name"], line["title"], f"{__package__}.{line['code']}"
            networks[name] = Network(
                name,
                title,
                partial(_build, code),
                tuple(map(int, line["scales"].split())),
                line["colour"],
                {int(table): title for table in line["tables"].split()},
                line["reference"],
                code,
                in_all=bool(line["tables"]),  # the others are of the authors' family: a study names them
            )
    return networks


def _build(code: str, scale: int) -> "nn.Module":
    module, _, name = code.partition(":")
    network: nn.Module = getattr(importlib.import_module(module), name)(scale)
    return network
