"""The fingerprint of a network's code, by its name; the network is not built."""

import json
from pathlib import Path
from typing import Any

from safmn import fingerprint, networks
from safmn.errors import UserError
from safmn.networks import variants
from safmn.networks.registry import published_networks

_cache: dict[str, str] = {}  # code and switches -> fingerprint


def of_network(name: str) -> str:
    """Return the fingerprint of the code of the network `name`.

    Numbers among a variant's switches do not count: a specification holds them, and they run the same code. So a study
    of a thousand variants that differ in numbers takes one fingerprint.

    Raises:
        UserError: the variant names a class that does not exist.
    """
    variant = variants.discover().get(name)
    code = networks.info(name).code
    if variant is None:
        return _fingerprint(code, {}, None)
    try:
        return _fingerprint(code, variant.switches, variant.file.parent)
    except UserError as error:
        raise UserError(f"{variant.file}: {error}") from None


def modules() -> set[str]:
    """Return the modules that define networks; their code counts for the networks that use it, not for all."""
    published = {network.code.partition(":")[0] for network in published_networks().values()}
    return {*published, *(f"{networks.__name__}.{name}" for name in ("safmn", "switches"))}


def _fingerprint(code: str, switches: dict[str, Any], beside: Path | None) -> str:
    numbers = {key for key, value in switches.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    choices = {key: value for key, value in switches.items() if key not in numbers}
    key = json.dumps([code, choices, sorted(numbers), str(beside)], sort_keys=True)
    if key not in _cache:
        _cache[key] = fingerprint.network(code, switches, beside, words=code == variants.CODE)
    return _cache[key]
