"""What a count or a prediction depends on beside the study: the code that makes it, and that of the network."""

from safmn import fingerprint, networks
from safmn.files import digest
from safmn.networks import variants
from safmn.networks.identity import apart, of_network

_COUNTING = ("safmn.cost.complexity:measure", "safmn.cost.conventions:alternatives")
_PREDICTING = ("safmn.cost.memory:predict", "safmn.cost.memory:measure")


def of_counts(name: str) -> str:
    """Return the digest of what the counts of the network `name` depend on."""
    return _of(name, _COUNTING)


def of_memory(name: str) -> str:
    """Return the digest of what the peak memory of the network `name` depends on."""
    return _of(name, _PREDICTING)


def _of(name: str, roots: tuple[str, ...]) -> str:
    variant, network = variants.discover().get(name), networks.info(name)
    arguments = variant.switches if variant else network.arguments or None  # their numbers do not show in the code
    return digest([fingerprint.code(*roots, apart=apart()), of_network(name), arguments])
