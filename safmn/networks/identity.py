"""The fingerprint of a network's code, by its name; the network is not built."""

from functools import cache
from pathlib import Path

from safmn import fingerprint, networks
from safmn.errors import UserError
from safmn.networks import variants
from safmn.networks.registry import published_networks


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
        return _fingerprint(code, None, None)
    choices = {key: value for key, value in variant.switches.items() if isinstance(value, str | bool)}
    try:
        return _fingerprint(code, tuple(sorted(choices.items())), variant.file.parent)
    except UserError as error:
        raise UserError(f"{variant.file}: {error}") from None


def modules() -> set[str]:
    """Return the modules that define networks; their code counts for the networks that use it, not for all."""
    published = {network.code.partition(":")[0] for network in published_networks().values()}
    return {*published, *(f"{networks.__name__}.{name}" for name in ("safmn", "switches"))}


@cache
def _fingerprint(code: str, choices: tuple[tuple[str, str | bool], ...] | None, beside: Path | None) -> str:
    return fingerprint.network(code, None if choices is None else dict(choices), beside)
