"""The key of a training run, which its saved states and its record must match. Imports no torch."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from safmn import fingerprint, networks
from safmn.errors import UserError
from safmn.files import digest
from safmn.networks import variants
from safmn.networks.identity import modules, of_network
from safmn.training import own

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


def code_fingerprint(name: str, settings: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return the fingerprint of the code that training the network `name` executes.

    Args:
        name: the network.
        settings: the `training` section of a specification; a loss and an optimiser of a user's own count as a whole.

    Raises:
        UserError: a class of a user's own cannot be found.
    """
    apart = modules() | {own.__name__}  # `own` only finds classes
    code = [fingerprint.code(*SEMANTIC, apart=apart), of_network(name)]
    if "form" in settings:  # others do not depend on it
        code.append(fingerprint.code(FORMED, apart=apart))
    if networks.info(name).colour == "Y":
        code.append(fingerprint.code(*OF_LUMA, apart=apart))
    for key, path in own.classes(settings).items():
        try:
            code.append(_own(key, path, tuple(sorted(own.texts(settings, key)))))
        except UserError as error:
            variant = variants.discover().get(name)
            where = variant.file if variant and key in variant.training else "the study"
            raise UserError(f"{where}: training.{error}") from None
    return digest(code)


@cache
def _own(key: str, path: str, texts: tuple[str, ...]) -> str:
    return fingerprint.classes({key: (path, *texts)}, own.beside(path)).digest()


def key_of(specification: dict[str, Any], data: list[str]) -> str:
    """Return the digest that a saved state must match: of specification, code and data (digests of packed datasets)."""
    code = code_fingerprint(specification["network"], specification["training"])
    return digest({"specification": specification, "code": code, "data": data})
