"""SAFMN and its switches, against the paper's equations written out and the authors' key names."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from safmn import networks
from safmn.errors import UserError
from safmn.networks import acceleration, safmn, switches


def test_the_baselines_keys_are_the_authors():
    """The layout that tools recognise a SAFMN file by."""
    keys = list(networks.build("safmn", 4).state_dict())
    assert keys[0] == "to_feat.weight"
    block = [key.removeprefix("feats.0.") for key in keys if key.startswith("feats.0.")]
    assert sorted(block) == sorted(
        [f"norm{i}.{part}" for i in (1, 2) for part in ("weight", "bias")]
        + [f"safm.mfr.{i}.{part}" for i in range(4) for part in ("weight", "bias")]
        + ["safm.aggr.weight", "safm.aggr.bias"]
        + [f"ccm.ccm.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")]
    )
    assert keys[-2:] == ["to_img.0.weight", "to_img.0.bias"]
    assert {key.split(".")[1] for key in keys if key.startswith("feats.")} == {str(i) for i in range(8)}


def formula(norm: nn.Module, x: torch.Tensor) -> np.ndarray:
    """LayerNorm of N x C x H x W over C by numpy in float64, with the paper's epsilon."""
    values = x.double().numpy()
    centred = values - values.mean(1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-6)
    weight, bias = (each.detach().double().numpy()[:, None, None] for each in (norm.weight, norm.bias))
    return weight * normed + bias


@pytest.mark.parametrize("lay_over", [acceleration.plain, acceleration.fuse, acceleration.accelerate])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-5])
@pytest.mark.parametrize("training", [True, False])
def test_layer_norm_is_its_formula(lay_over, spread, training):
    """A spread of 1e-3 has a variance of 1e-6: there the epsilon halves it."""
    torch.manual_seed(0)
    norm = lay_over(safmn.LayerNorm2d(12)).train(training)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = spread * torch.randn(3, 12, 56, 57)
    np.testing.assert_allclose(norm(x).detach().numpy(), formula(norm, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("lay_over", [acceleration.fuse, acceleration.accelerate])
def test_gradients_of_layer_norm_are_those_of_its_formula(memory_format, threads, lay_over, torch_threads):
    """In training the CPU has a backward pass of our own; autograd of the formula written out knows nothing of it."""
    torch_threads(threads)
    torch.manual_seed(0)
    norm = safmn.LayerNorm2d(6).double().train()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 6, 56, 57, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    upstream = torch.randn(3, 6, 56, 57, dtype=torch.float64)
    gradients = [
        torch.autograd.grad(each(x), [x, *each.parameters()], upstream)
        for each in (lay_over(copy.deepcopy(norm)), norm)
    ]
    for ours, written_out in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, written_out, rtol=1e-10, atol=1e-10)


ACTIVATIONS = {
    "gelu": lambda m: 0.5 * m * (1 + math.erf(m / math.sqrt(2))),
    "none": lambda m: m,
    "sigmoid": lambda m: 1 / (1 + math.exp(-m)),
}


@pytest.mark.parametrize("size", [(8, 8), (13, 21), (16, 24)])
@pytest.mark.parametrize("activation", safmn.ACTIVATIONS)
@pytest.mark.parametrize("lay_over", [acceleration.plain, acceleration.accelerate])
def test_safm_is_equations_1_to_3(size, activation, lay_over):
    """Each level by loops: max over the region that adaptive pooling defines, convolution, nearest enlargement."""
    torch.manual_seed(0)
    module = lay_over(safmn.SAFM(8, activation=activation).double())
    for parameter in module.parameters():
        nn.init.normal_(parameter)  # so that the activation sees large values as well
    x = torch.randn(1, 8, *size, dtype=torch.float64)
    height, width = size
    levels = []
    for level in range(4):
        part = x[:, 2 * level : 2 * level + 2]
        h, w = height // 2**level, width // 2**level
        pooled = torch.empty(1, 2, h, w, dtype=torch.float64)
        for i in range(h):
            for j in range(w):
                rows = slice(i * height // h, -(-(i + 1) * height // h))
                columns = slice(j * width // w, -(-(j + 1) * width // w))
                pooled[..., i, j] = part[..., rows, columns].amax((-2, -1))
        conv = module.mfr[level]
        features = F.conv2d(pooled, conv.weight, conv.bias, padding=1, groups=2)
        enlarged = torch.empty(1, 2, height, width, dtype=torch.float64)
        for i in range(height):
            for j in range(width):
                enlarged[..., i, j] = features[..., i * h // height, j * w // width]
        levels.append(enlarged)
    mixed = F.conv2d(torch.cat(levels, 1), module.aggr.weight, module.aggr.bias)
    assert mixed.min() < -4
    assert mixed.max() > 4
    expected = mixed.detach().clone().apply_(ACTIVATIONS[activation]) * x
    torch.testing.assert_close(module(x).detach(), expected)
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected)


def test_a_block_is_equation_4():
    torch.manual_seed(0)
    network = networks.build("safmn", 2)
    block, x = network.feats[0], torch.randn(1, 36, 16, 16)
    y = block.safm(block.norm1(x)) + x
    torch.testing.assert_close(block(x), block.ccm(block.norm2(y)) + y)


def test_a_removed_branch_leaves_the_other_line_of_equation_4():
    torch.manual_seed(0)
    x = torch.randn(1, 36, 16, 16)
    block = networks.build("safm_none", 2).feats[0]
    torch.testing.assert_close(block(x), block.ccm(block.norm2(x)) + x)
    block = networks.build("ccm_none", 2).feats[0]
    torch.testing.assert_close(block(x), block.safm(block.norm1(x)) + x)
    neither = safmn.SAFMN(2, dim=8, n_blocks=3, mixer="none", channel_mixer="none")
    assert torch.equal(neither.feats(x), x)
    assert [key for key in neither.state_dict() if key.startswith("feats")] == []


@pytest.mark.parametrize(
    ("name", "gone"),
    [("safm_none", ("norm1", "safm")), ("ccm_none", ("norm2", "ccm")), ("no_fa", ("aggr",)), ("ln_none", ("norm",))],
)
def test_none_removes_and_takes_its_normalisation_along(name, gone):
    keys = networks.build(name, 4).state_dict()
    assert not [key for key in keys if any(part in key for part in gone)]


@pytest.mark.parametrize(("height", "width"), [(16, 24), (13, 21)])
def test_other_poolings_are_what_their_names_say(height, width):
    x = torch.randn(1, 2, height, width, dtype=torch.float64)
    size = (height // 4, width // 4)
    averages, nearest = (torch.empty(1, 2, *size, dtype=torch.float64) for _ in range(2))
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(i * height // size[0], -(-(i + 1) * height // size[0]))
            columns = slice(j * width // size[1], -(-(j + 1) * width // size[1]))
            averages[..., i, j] = x[..., rows, columns].mean((-2, -1))
            nearest[..., i, j] = x[..., i * height // size[0], j * width // size[1]]
    torch.testing.assert_close(safmn.POOLINGS["average"](x, size), averages)
    torch.testing.assert_close(safmn.POOLINGS["nearest"](x, size), nearest)


def test_without_modulation_the_input_is_not_multiplied():
    torch.manual_seed(0)
    with_it, without = safmn.SAFM(8), safmn.SAFM(8, modulation=False)
    without.load_state_dict(with_it.state_dict())
    x = torch.randn(1, 8, 16, 16)
    torch.testing.assert_close(without(x) * x, with_it(x))


def test_l2_normalised_positions_have_unit_norm():
    x = torch.randn(2, 36, 4, 4) * 100
    torch.testing.assert_close(switches.L2Norm2d(36)(x).norm(dim=1), torch.ones(2, 4, 4))


def test_frozen_batch_norm_has_no_parameters_and_never_changes():
    norm = switches.FrozenBatchNorm2d(4).train()
    x = torch.randn(8, 4, 3, 3) * 5 + 2
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    out = norm(x)
    assert not list(norm.parameters())
    assert all(torch.equal(before[key], value) for key, value in norm.state_dict().items())
    reference = nn.BatchNorm2d(4).eval()
    torch.testing.assert_close(out, reference(x))


def test_an_image_too_small_for_the_pooling_levels_is_refused():
    network = networks.build("safmn", 4)
    with pytest.raises(UserError, match="7x20 pixels is too small"):
        network(torch.rand(1, 3, 20, 7))
    assert networks.build("no_mr", 4)(torch.rand(1, 3, 5, 7)).shape == (1, 3, 20, 28)
