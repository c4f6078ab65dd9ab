"""The key of a training run, which its saved states and its record must match. Imports no torch."""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar

from safmn import fingerprint, networks
from safmn.errors import UserError
from safmn.files import digest
from safmn.networks import variants
from safmn.networks.identity import modules, of_network
from safmn.training import own

T = TypeVar("T")

# The code that a run's result depends on, beside the network. Progress, files and the metrics of the quality stage are
# not part of it: editing them retrains nothing.
SEMANTIC = (
    "safmn.training.randomness:seed_everything",
    "safmn.data.patches:PatchSampler",
    "safmn.training.step:TrainStep",
    "safmn.training.loss:terms",
    "safmn.training.schedule:rate_of",
    "safmn.training.validation:rgb_psnr",
    "safmn.training.validation:is_best",
    "safmn.training.collapse:watch_of",
    "safmn.training.loop:configure",
    "safmn.networks.acceleration:accelerate",
)
FORMED = "safmn.training.forms:FormedStep"
"""Counts, too, where `training.form` is given."""
OF_LUMA = ("safmn.training.luma:batches", "safmn.training.validation:rgb_psnr_of_luma")
"""What a network of colour Y depends on beside them."""


def parts(
    name: str,
    settings: Mapping[str, Any],
    functions: Callable[[tuple[str, ...]], T],
    network: Callable[[str], T],
    own_class: Callable[[str, str, tuple[str, ...]], T],
) -> list[T]:
    """Call a function for each part of the code that training the network `name` executes.

    Args:
        name: the network.
        settings: the `training` section of a specification.
        functions: called with functions, as "module:name"; the code in `apart()` is no part of them.
        network: called with the name of a network.
        own_class: called for a loss or an optimiser of a user's own, with the key that names it, "module:Class", and
            the texts among its arguments.

    Returns:
        What they returned, such as fingerprints, in a fixed order.
    """
    found = [functions(SEMANTIC), network(name)]
    if "form" in settings:  # others do not depend on it
        found.append(functions((FORMED,)))
    if networks.info(name).colour == "Y":
        found.append(functions(OF_LUMA))
    for key, path in own.classes(settings).items():
        found.append(own_class(key, path, tuple(sorted(own.texts(settings, key)))))
    return found


def apart() -> frozenset[str]:
    """Return the modules whose code counts for a network or a class of a user's own, or that only find such a class."""
    return modules() | {own.__name__}


def code_fingerprint(name: str, settings: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return the fingerprint of the code that training the network `name` executes.

    Args:
        name: the network.
        settings: the `training` section of a specification; a loss and an optimiser of a user's own count as a whole.

    Raises:
        UserError: a class of a user's own cannot be found.
    """

    def of_functions(names: tuple[str, ...]) -> str:
        return fingerprint.code(*names, apart=apart())

    def of_class(key: str, path: str, texts: tuple[str, ...]) -> str:
        try:
            return _of_class(key, path, texts)
        except UserError as error:
            variant = variants.discover().get(name)
            where = variant.file if variant and key in variant.training else "the study"
            raise UserError(f"{where}: training.{error}") from None

    return digest(parts(name, settings, of_functions, of_network, of_class))


@cache
def _of_class(key: str, path: str, texts: tuple[str, ...]) -> str:
    return fingerprint.classes({key: (path, *texts)}, own.beside(path)).digest()


def key_of(specification: dict[str, Any], data: list[str], code: str | None = None) -> str:
    """Return the digest that a saved state must match: of specification, code and data (digests of packed datasets).

    Args:
        specification: of the run.
        data: digests of packed datasets.
        code: the fingerprint of other code than that here.
    """
    code = code or code_fingerprint(specification["network"], specification["training"])
    return digest({"specification": specification, "code": code, "data": data})
