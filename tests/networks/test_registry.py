"""The table of published networks."""

import subprocess
import sys

from safmn import networks
from safmn.networks import registry


def test_lists_of_networks_do_not_wait_for_torch():
    command = "import sys; from safmn import networks; networks.info('imdn'); print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert output == "False\n"


def test_a_network_is_built_by_what_is_read():
    for name, network in registry.published_networks().items():
        module = networks.build(name, network.scales[0])
        assert f"{type(module).__module__}:{type(module).__qualname__}" == network.code
    assert len(registry.published_networks()) == 17
