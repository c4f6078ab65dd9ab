"""LAPAR-A against the paper's figures and the definition of pixel-adaptive filtering."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from safmn.cost import complexity, memory
from safmn.networks.lapar import LAPAR, WeightNormConv, dictionary


@pytest.mark.parametrize(
    ("scale", "params", "flops", "activations"),
    [(2, 547.87, 175.28, 656.18), (3, 594.27, 118.64, 505.02), (4, 659.23, 98.69, 451.58)],
)
def test_complexity(scale, params, flops, activations):
    counted = complexity.measure("lapar_a", scale)
    assert counted["params"] / 1e3 == pytest.approx(params, abs=0.0055)
    assert counted["flops"] / 1e9 == pytest.approx(flops, abs=0.0055)
    assert counted["activations"] / 1e6 == pytest.approx(activations, abs=0.0055)


def test_memory_is_just_below_table_2():
    assert 0.98 * 1811.47 < memory.predict("lapar_a", 4, 180, 320) / 2**20 <= 1811.47


def test_dictionary():
    atoms = dictionary()
    assert atoms.shape == (72, 1, 5, 5)
    torch.testing.assert_close(atoms[:36].sum((1, 2, 3)), torch.ones(36))
    torch.testing.assert_close(atoms[36:].sum((1, 2, 3)), torch.zeros(36), atol=1e-6, rtol=0)
    torch.testing.assert_close(atoms, atoms.flip(2, 3))  # a Gaussian is symmetric about its centre
    # 13 = (25 + 1) / 2 values are free in such a filter: the atoms can make every one.
    assert torch.linalg.matrix_rank(atoms.flatten(1).double(), rtol=1e-4) == 13
    assert len({tuple(atom.flatten().mul(1e4).round().tolist()) for atom in atoms}) == 72
    # A horizontal filter is wider than high, and a quarter turn turns it.
    offsets = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    horizontal, vertical = atoms[[1, 5], 0]
    assert (horizontal.sum(0) * offsets**2).sum() > 1.5 * (horizontal.sum(1) * offsets**2).sum()
    torch.testing.assert_close(vertical, horizontal.T)


def test_output_is_each_pixels_patch_under_its_own_filter():
    torch.manual_seed(0)
    network = LAPAR(3).eval()
    x = torch.rand(2, 3, 4, 5)
    with torch.no_grad():
        mix = network.w_conv(x)  # N x 72 x H x W
        filters = torch.einsum("nkhw,kyx->nyxhw", mix, network.decom_conv.weight[:, 0])
        bicubic = F.interpolate(x, scale_factor=3, mode="bicubic")
        patches = F.unfold(F.pad(bicubic, (2, 2, 2, 2), mode="reflect"), 5).view(2, 3, 5, 5, 12, 15)
        torch.testing.assert_close(network(x), (patches * filters[:, None]).sum((2, 3)))


def test_weight_norm_is_torchs():
    ours = WeightNormConv(4, 6, 3)
    nn.init.uniform_(ours.weight_g, 0.5, 2)
    theirs = weight_norm(nn.Conv2d(4, 6, 3, padding=1))
    state = {"bias": ours.bias}
    state["parametrizations.weight.original0"] = ours.weight_g
    state["parametrizations.weight.original1"] = ours.weight_v
    theirs.load_state_dict(state)
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))


def test_keys_are_the_authors():
    state = LAPAR(4).state_dict()
    for key, shape in {
        "decom_conv.weight": (72, 1, 5, 5),
        "w_conv.rgb_mean": (1, 3, 1, 1),
        "w_conv.head.0.weight_g": (32, 1, 1, 1),
        "w_conv.body.3.b2.body.2.weight_v": (32, 32, 3, 3),
        "w_conv.body.0.b0.res_scale.scale": (1,),
        "w_conv.body.1.reduction.bias": (32,),
        "w_conv.up.0.weight_v": (512, 32, 3, 3),
        "w_conv.tail.tail_k5.weight_v": (32, 32, 5, 5),
        "w_conv.tail.w_conv.weight_v": (72, 32, 3, 3),
    }.items():
        assert tuple(state[key].shape) == shape


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_odd_sizes_and_gradients(scale):
    network = LAPAR(scale)
    output = network(torch.rand(1, 3, 7, 11))
    assert output.shape == (1, 3, 7 * scale, 11 * scale)
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
