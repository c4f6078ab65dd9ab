"""The fingerprint of a network's code, by its name; the network is not built."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from safmn import fingerprint, networks
from safmn.errors import UserError
from safmn.files import digest
from safmn.networks import variants
from safmn.networks.registry import published_networks


def of_network(name: str) -> str:
    """Return the fingerprint of the code of the network `name`.

    Numbers among a variant's arguments do not count: a specification holds them, and they run the same code. So a study
    of a thousand variants that differ in numbers takes one fingerprint. Those of a network in `own_networks` do, since
    no specification holds them.

    Raises:
        UserError: the variant names a class that does not exist.
    """
    network = networks.info(name)
    if network.file is None:
        return _fingerprint(network.code, None, None)
    choices = {key: value for key, value in network.arguments.items() if _is_choice(value)}
    try:
        code = _fingerprint(network.code, json.dumps(choices, sort_keys=True), network.file.parent)
    except UserError as error:
        raise UserError(f"{network.file}: {error}") from None
    return code if name in variants.discover() else digest([code, network.arguments])


def _is_choice(value: Any) -> bool:
    """Return whether an argument may decide which code runs: a word, a yes or no, or something that holds them."""
    if isinstance(value, dict | list):
        return any(map(_is_choice, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str | bool)


def modules() -> frozenset[str]:
    """Return the modules that define networks; their code counts for the networks that use it, not for all."""
    published = {network.code.partition(":")[0] for network in published_networks().values()}
    return frozenset({*published, *(f"{networks.__name__}.{name}" for name in ("safmn", "switches"))})


def apart() -> frozenset[str]:
    """Return the modules whose code does not count for what is made with a network's weights, or counted of it.

    They are those that define networks (`modules`), and those that find a variant by its name and read its file: what
    they find is part of each fingerprint and specification.
    """
    names = ("configuration", "networks.sweeps", "networks.variants", "paths", "schema")
    return modules() | {f"safmn.{name}" for name in names}


@cache
def _fingerprint(code: str, choices: str | None, beside: Path | None) -> str:
    return fingerprint.network(code, None if choices is None else json.loads(choices), beside).digest()
