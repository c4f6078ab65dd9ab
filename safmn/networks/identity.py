"""What the code of a network is, by its name: the fingerprint of what is built and run, read without building it."""

import json
from pathlib import Path

from safmn import fingerprint, networks
from safmn.errors import UserError
from safmn.networks import variants
from safmn.networks.registry import published_networks

_known: dict[str, str] = {}  # code and switches -> fingerprint


def of_network(name: str) -> str:
    """The fingerprint of the code of the network `name`; UserError where a class that it names is not there.

    A specification holds its numbers, and all blocks run the same code: a study of a thousand variants that differ in
    numbers is looked at once.
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
    """The modules that define networks: what stands in them counts for the networks that use it, not for all."""
    found = {each.code.partition(":")[0] for each in published_networks().values()}
    return {*found, *(f"{networks.__name__}.{name}" for name in ("safmn", "switches"))}


def _fingerprint(code: str, switches: dict, beside: Path | None) -> str:
    numbers = {key for key, value in switches.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    choices = {key: value for key, value in switches.items() if key not in numbers}
    key = json.dumps([code, choices, sorted(numbers), str(beside)], sort_keys=True)
    if key not in _known:
        _known[key] = fingerprint.network(code, switches, beside, words=code == variants.CODE)
    return _known[key]
