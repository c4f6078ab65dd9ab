"""The key of a training run, which its saved states and its record must match. Imports no torch."""

from functools import cache
from typing import Any

from safmn import fingerprint
from safmn.files import digest
from safmn.networks.identity import modules, of_network

# The code that a run's result depends on, beside the network. Progress, files and the metrics of the quality stage are
# not part of it: editing them retrains nothing.
SEMANTIC = (
    "safmn.training.randomness:seed_everything",
    "safmn.data.patches:PatchSampler",
    "safmn.training.step:TrainStep",
    "safmn.training.loss:terms",
    "safmn.training.schedule:learning_rate",
    "safmn.training.validation:rgb_psnr",
    "safmn.training.validation:is_best",
    "safmn.training.collapse:CollapseWatch",
    "safmn.training.loop:configure",
    "safmn.networks.acceleration:accelerate",
)


def code_fingerprint(name: str) -> str:
    """Return the fingerprint of the code that training the network `name` executes."""
    return digest([_recipe(), of_network(name)])


@cache
def _recipe() -> str:
    return fingerprint.code(*SEMANTIC, apart=modules())


@cache
def _forms() -> str:
    return fingerprint.code("safmn.training.forms:FormedStep", apart=modules())


def key_of(specification: dict[str, Any], data: list[str]) -> str:
    """Return the digest that a saved state must match: of specification, code and data (digests of packed datasets)."""
    code = code_fingerprint(specification["network"])
    if "form" in specification["training"]:  # others do not depend on it
        code = digest([code, _forms()])
    return digest({"specification": specification, "code": code, "data": data})
