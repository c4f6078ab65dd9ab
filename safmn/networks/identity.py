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
        return _fingerprint(code, None, None)
    try:
        return _fingerprint(code, variant.switches, variant.file.parent)
    except UserError as error:
        raise UserError(f"{variant.file}: {error}") from None


def modules() -> set[str]:
    """The modules that define networks: what stands in them counts for the networks that use it, not for all."""
    found = {each.code.partition(":")[0] for each in published_networks().values()}
    return {*found, *(f"{networks.__name__}.{name}" for name in ("safmn", "switches"))}


def _fingerprint(code: str, switches: dict | None, beside: Path | None) -> str:
    choices = {key: value for key, value in (switches or {}).items() if isinstance(value, str | bool)}
    key = json.dumps([code, None if switches is None else choices, str(beside)], sort_keys=True)
    if key not in _known:
        _known[key] = fingerprint.network(code, None if switches is None else choices, beside)
    return _known[key]
