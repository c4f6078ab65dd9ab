"""ECBSR: the paper's figures, and the plain network's equality with the trained one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from safmn import networks
from safmn.cost import complexity
from safmn.networks.ecbsr import ECBSR, EdgeBlock, TrainableECBSR, plain_state


def trained(scale: int) -> TrainableECBSR:
    """A trainable network whose edge branches matter as much as the others and whose slopes differ."""
    torch.manual_seed(scale)
    network = TrainableECBSR(scale)
    for name, parameter in network.named_parameters():
        if name.endswith((".scale", ".bias")):
            nn.init.normal_(parameter, std=0.1)
        elif name.endswith("act.weight"):
            nn.init.uniform_(parameter, 0.1, 0.4)
    return network


@pytest.mark.parametrize(
    ("scale", "params", "flops", "activations"), [(2, 594.88, 136.56, 251.60), (4, 601.81, 34.54, 63.59)]
)
def test_complexity(scale, params, flops, activations):
    counted = complexity.measure("ecbsr_m16c64", scale)
    assert counted["params"] / 1e3 == pytest.approx(params, abs=0.0055)
    assert counted["flops"] / 1e9 == pytest.approx(flops, abs=0.0055)
    assert counted["activations"] / 1e6 == pytest.approx(activations, abs=0.0055)


def test_the_registered_network_is_plain():
    network = networks.build("ecbsr_m16c64", 2)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    slopes = [m for m in network.modules() if isinstance(m, nn.PReLU)]
    assert len(convolutions) == 18
    assert {m.kernel_size for m in convolutions} == {(3, 3)}
    assert [m.num_parameters for m in slopes] == [64] * 17


def test_block_is_the_sum_of_its_branches():
    """Against the definition, each branch computed layer by layer with the rim of the 1x1's output set to its bias."""
    torch.manual_seed(0)
    block = EdgeBlock(3, 5, activated=False)
    for branch in block.branches()[1:]:
        nn.init.normal_(branch.scale)
    x = torch.randn(2, 3, 6, 7)
    stencils = (
        [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
        [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
        [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    )

    def with_rim(branch):
        hidden = branch.b0.view(1, -1, 1, 1).repeat(2, 1, 8, 9)
        hidden[:, :, 1:-1, 1:-1] = F.conv2d(x, branch.k0, branch.b0)
        return hidden

    expected = F.conv2d(x, block.conv3x3.weight, block.conv3x3.bias, padding=1)
    expected = expected + F.conv2d(with_rim(block.conv1x1_3x3), block.conv1x1_3x3.k1, block.conv1x1_3x3.b1)
    for branch, stencil in zip(block.branches()[1:], stencils, strict=True):
        hidden = with_rim(branch)
        planes = [
            branch.scale[c] * F.conv2d(hidden[:, c : c + 1], torch.tensor(stencil).float()[None, None]) + branch.bias[c]
            for c in range(5)
        ]
        expected = expected + torch.cat(planes, 1)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("scale", [2, 4])
def test_plain_equals_trained(scale):
    network = trained(scale).eval()
    plain = ECBSR(scale).eval()
    plain.load_state_dict(plain_state(network))
    x = torch.rand(1, 1, 9, 13)
    with torch.no_grad():
        expected = network(x)
        assert (plain(x) - expected).abs().max() <= 1e-5
        assert (expected - F.interpolate(x, scale_factor=scale)).abs().max() > 0.01  # more than the skip alone


def test_weights_of_either_form_load(tmp_path):
    network = trained(2).eval()
    torch.save(network.state_dict(), tmp_path / "trained.pth")
    torch.save(plain_state(network), tmp_path / "plain.pth")
    x = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        for name in ("trained", "plain"):
            loaded = networks.load_weights(tmp_path / f"{name}.pth", "ecbsr_m16c64", 2)
            assert (loaded(x) - network(x)).abs().max() <= 1e-5


@pytest.mark.parametrize("form", [ECBSR, TrainableECBSR])
def test_odd_sizes_and_gradients(form):
    network = form(4)
    output = network(torch.rand(1, 1, 7, 11))
    assert output.shape == (1, 1, 28, 44)
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
