"""Networks of a user's own: a class that a YAML file names, and the networks with weights in a folder of such files."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safmn import paths
from safmn.configuration import check, read_yaml, yaml_files
from safmn.errors import UserError, as_line, one_line
from safmn.networks.registry import NAME, Network, published_networks
from safmn.schema import NetworkFile, WeightsOf

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class OwnNetwork:
    """A network of one's own that stands in Table 1 like a published one.

    Attributes:
        network: how it is built.
        weights: scale -> where its weights are.
        licence: of the weights.
    """

    network: Network
    weights: Mapping[int, WeightsOf]
    licence: str


def build(file: Path, code: str, arguments: Mapping[str, Any], scale: int) -> "nn.Module":
    """Build the class that a YAML file names, as `Class(scale, **arguments)`; its module may lie beside the file.

    Raises:
        UserError: it cannot be imported, does not take these arguments, or gives no `torch.nn.Module`.
    """
    from torch import nn

    with building(file):
        made = imported(code, file.parent)
        called = ", ".join(["scale", *(f"{key}={value!r}" for key, value in arguments.items())])
        name = code.partition(":")[2]
        try:
            inspect.signature(made).bind(scale, **arguments)
        except TypeError as error:
            raise UserError(f"{name}({called}) cannot be called: {error}; correct `args` or the class") from error
        except ValueError:  # compiled: it has no signature to look at
            pass
        network = made(scale, **arguments)
        if not isinstance(network, nn.Module):
            raise UserError(f"{code} gives a {type(network).__name__}, not a torch.nn.Module")
    return network


@contextmanager
def building(file: Path) -> Iterator[None]:
    """Let a class beside `file` be imported, and turn what goes wrong inside into a UserError that names the file.

    The current folder is kept, since the paths that the harness looks up later may be relative.
    """
    _reach(file.parent)
    try:
        with chdir("."):
            yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    except SystemExit as error:
        said = as_line(error)
        raise UserError(f"{file}: the network cannot be built: its class calls sys.exit() ({said})") from error
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise UserError(f"{file}: the network cannot be built: {reason}") from error


def imported(code: str, folder: Path | None) -> Callable[..., Any]:
    """Import "module:Class".

    Args:
        code: the class, or a function that makes one.
        folder: where its module may lie; None where it is installed.

    Raises:
        UserError: it cannot be imported, or Python takes another module of this name.
    """
    module_name, _, name = code.partition(":")
    if folder:
        _reach(folder)
    try:
        with chdir("."):  # else `folder`, which may be relative, would be another one below
            made: Callable[..., Any] = getattr(importlib.import_module(module_name), name)
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        reason = as_line(error)
        raise UserError(
            f"{code!r} cannot be imported ({reason}): is its module beside the file or installed?"
        ) from error
    if folder:
        check_not_hidden(code, folder)
    if not callable(made):
        raise UserError(f"{code!r} is no class")
    return made


def _reach(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def check_not_hidden(code: str, folder: Path) -> None:
    """Raise UserError if the imported module of "module:name" is another than the one in `folder`, if there is one.

    Python takes the first of several modules of one name, and none anew that it has imported already.
    """
    module_name = code.partition(":")[0]
    place = folder.joinpath(*module_name.split("."))
    beside = next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)
    found = getattr(sys.modules.get(module_name), "__file__", None)
    if beside and not (found and Path(found).is_file() and beside.samefile(found)):
        raise UserError(
            f"{code!r} is that of {found or 'Python itself'}, which Python finds before {beside}: rename the latter"
        )


def networks(folder: Path | None = None) -> dict[str, OwnNetwork]:
    """Return the networks of a folder of YAML files, or of all that are known (`safmn.paths.own_networks`), by name.

    Raises:
        UserError: a folder is missing, or one of its files is wrong; the message names it.
    """
    folders = [folder] if folder else paths.own_networks()
    return {name: network for each in folders for name, network in _networks(each).items()}


def find_in(folder: Path) -> None:
    """Let the networks of a folder be found by name, here and, by SAFMN_NETWORKS, in child processes.

    Those in folders that other studies of this process name are found as before.

    Raises:
        UserError: one of its files is wrong or has the name of one in another of these folders.
    """
    known = paths.own_networks() if os.environ.get(paths.NETWORKS) else []
    if folder.resolve() in [other.resolve() for other in known]:
        return
    if os.pathsep in str(folder):
        raise UserError(f"{folder} has {os.pathsep!r} in its name, which separates the folders of {paths.NETWORKS}")
    for other in filter(Path.is_dir, known):
        for name in _networks(folder).keys() & _networks(other).keys():
            raise UserError(
                f"{_networks(folder)[name].network.file}: {_networks(other)[name].network.file}, which another study "
                "here names, has this name: rename one, or use the two studies one after the other"
            )
    os.environ[paths.NETWORKS] = os.pathsep.join(map(str, (*known, folder)))


@cache
def _networks(folder: Path) -> dict[str, OwnNetwork]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: own_networks names one with a YAML file for each network")
    return {file.stem: load(file) for file in yaml_files(folder)}


def load(file: Path) -> OwnNetwork:
    """Read one network without building it; UserError that names file and key where it is wrong."""
    name = file.stem
    if not NAME.fullmatch(name):
        raise UserError(f"{file}: a network's name is its file's: lower-case letters, digits and _ only")
    if name in published_networks():
        raise UserError(f"{file}: a published network has this name: rename the file")
    content = check(NetworkFile, read_yaml(file), file)
    weights = {int(scale): where for scale, where in content.weights.items()}
    for scale in weights:
        if scale not in content.scales:
            raise UserError(f"{file}: weights.{scale}: scales does not have x{scale}: add it there")
    network = Network(
        name,
        content.title,
        partial(build, file, content.class_, content.args),
        scales=content.scales,
        colour=content.colour,
        reference=content.reference,
        code=content.class_,
        arguments=content.args,
        file=file,
    )
    return OwnNetwork(network, weights, content.licence)
