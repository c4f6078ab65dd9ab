"""What is known about each network that can be built by name."""

import ast
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safmn import syntax
from safmn.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_MARK = "@published("


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
        code: the class or function that is built, as "module:name".
    """

    name: str
    title: str
    factory: "Callable[[int], nn.Module]"
    scales: tuple[int, ...] = (2, 3, 4)
    colour: str = "RGB"
    rows: dict[int, str] = field(default_factory=dict)
    reference: str = ""
    code: str = ""

    @property
    def channels(self) -> int:
        """Channels of its input and output."""
        return {"RGB": 3, "Y": 1}[self.colour]


def published(
    name: str,
    title: str,
    *,
    rows: dict[int, str],
    reference: str,
    scales: tuple[int, ...] = (2, 3, 4),
    colour: str = "RGB",
) -> "Callable[[Callable[[int], nn.Module]], Callable[[int], nn.Module]]":
    """Says that the decorated class or function, which takes a scale, is a published network.

    It is read from the source text (`published_networks`), so its arguments are written out, or names of constants of
    the same file that are.
    """
    return lambda factory: factory


@cache
def published_networks() -> dict[str, Network]:
    """All published networks, read from every module of this package: to add one is to add a file.

    No module is imported, so that what only lists networks does not wait for torch.
    """
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        text = file.read_text(encoding="utf-8")
        if _MARK in text and file.name != Path(__file__).name:
            for network in _in_file(file, ast.parse(text)):
                found[network.name] = network
    return dict(sorted(found.items()))


def _in_file(file: Path, tree: ast.Module) -> list[Network]:
    module = f"{__package__}.{file.stem}"
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    found = []
    for node in filter(syntax.is_definition, tree.body):
        for each in node.decorator_list:
            if isinstance(each, ast.Call) and syntax.dotted(each.func) == "published":
                factory = partial(_build, module, node.name)
                found.append(_network(factory, f"{module}:{node.name}", each, constants, f"{file}, line {each.lineno}"))
    return found


def _network(
    factory: "Callable[[int], nn.Module]", code: str, call: ast.Call, constants: dict[str, ast.expr], where: str
) -> Network:
    def value(node: ast.expr) -> Any:
        try:
            return ast.literal_eval(constants.get(node.id, node) if isinstance(node, ast.Name) else node)
        except ValueError:
            raise UserError(f"{where}: {ast.unparse(node)} is not written out: @published is read, not run") from None

    named = {each.arg or "": value(each.value) for each in call.keywords}
    try:
        return Network(*map(value, call.args), factory=factory, code=code, **named)
    except TypeError as error:
        raise UserError(f"{where}: @published: {error}") from None


def _build(module: str, name: str, scale: int) -> "nn.Module":
    return getattr(importlib.import_module(module), name)(scale)
