"""The table of published networks."""

from safmn import networks
from safmn.networks import registry


def test_a_network_is_built_by_what_is_read():
    for name, network in registry.published_networks().items():
        module = networks.build(name, network.scales[0])
        assert f"{type(module).__module__}:{type(module).__qualname__}" == network.code
    assert len(registry.published_networks()) == 17
