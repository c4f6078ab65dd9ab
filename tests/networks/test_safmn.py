"""SAFMN and its switches, against the paper's equations written out and the authors' key names."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from safmn import networks
from safmn.errors import UserError
from safmn.networks import blocks, safmn, variants


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


def test_layer_norm_is_the_same_fused_and_written_out():
    torch.manual_seed(0)
    norm = safmn.LayerNorm2d(12)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 12, 5, 7)
    fused = norm(x)
    norm.fused = False
    torch.testing.assert_close(norm(x), fused, rtol=1e-5, atol=1e-6)
    pixel = x[1, :, 3, 4].double().numpy()
    expected = (pixel - pixel.mean()) / np.sqrt(pixel.var() + 1e-6)
    expected = expected * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    np.testing.assert_allclose(fused[1, :, 3, 4].detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_of_layer_norm_are_those_of_its_formula(memory_format, threads, torch_threads):
    """In training the CPU has a backward pass of our own; autograd of the formula written out knows nothing of it."""
    torch_threads(threads)
    torch.manual_seed(0)
    norm = safmn.LayerNorm2d(6).double().train()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 6, 56, 57, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    upstream = torch.randn(3, 6, 56, 57, dtype=torch.float64)
    gradients = []
    for fused in (True, False):
        norm.fused = fused
        gradients.append(torch.autograd.grad(norm(x), [x, norm.weight, norm.bias], upstream))
    for ours, formula in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, formula, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("images", "side"), [(1, 5), (2, 64), (15, 33), (16, 64)])
def test_a_1x1_convolution_is_one_whatever_way_it_takes(memory_format, images, side, torch_threads):
    torch_threads(1)
    torch.manual_seed(0)
    ours = blocks.Conv1x1(6, 9)
    plain = nn.Conv2d(6, 9, 1)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(images, 6, side, side + 3).to(memory_format=memory_format).requires_grad_()
    upstream = torch.randn(images, 9, side, side + 3)
    results = []
    for module in (ours, plain):
        y = module(x)
        results.append((y, *torch.autograd.grad(y, [x, *module.parameters()], upstream)))
    for one, other in zip(*results, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [(8, 8), (13, 21), (16, 24)])
def test_safm_is_equations_1_to_3(size):
    """Each level by loops: max over the region that adaptive pooling defines, convolution, nearest enlargement."""
    torch.manual_seed(0)
    module = safmn.SAFM(8).double()
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
    expected = 0.5 * mixed * (1 + torch.erf(mixed / 2**0.5)) * x
    torch.testing.assert_close(module(x), expected)


def test_a_block_is_equation_4():
    torch.manual_seed(0)
    network = networks.build("safmn", 2)
    block, x = network.feats[0], torch.randn(1, 36, 16, 16)
    y = block.safm(block.norm1(x)) + x
    torch.testing.assert_close(block(x), block.ccm(block.norm2(y)) + y)


@pytest.mark.parametrize(
    ("name", "gone"),
    [("safm_none", ("norm1", "safm")), ("ccm_none", ("norm2", "ccm")), ("no_fa", ("aggr",)), ("ln_none", ("norm",))],
)
def test_none_removes_and_takes_its_normalisation_along(name, gone):
    keys = networks.build(name, 4).state_dict()
    assert not [key for key in keys if any(part in key for part in gone)]


def test_without_modulation_the_input_is_not_multiplied():
    torch.manual_seed(0)
    with_it, without = safmn.SAFM(8), safmn.SAFM(8, modulation=False)
    without.load_state_dict(with_it.state_dict())
    x = torch.randn(1, 8, 16, 16)
    torch.testing.assert_close(without(x) * x, with_it(x))


def test_l2_normalised_positions_have_unit_norm():
    x = torch.randn(2, 36, 4, 4) * 100
    torch.testing.assert_close(safmn.L2Norm2d(36)(x).norm(dim=1), torch.ones(2, 4, 4))


def test_frozen_batch_norm_has_no_parameters_and_never_changes():
    norm = safmn.FrozenBatchNorm2d(4).train()
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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("network: {mixer: nowhere.mixers:Gated}", ("mixer", "nowhere", "installed")),
        ("network: {mixer: gated}", ("mixer", "'gated'", "safm, none")),
        ("network: {norm: 'torch:tensor'}", ("norm", "torch:tensor", "Module")),
        ("network: {dim: 38}", ("dim 38", "4")),
        ("network: {channel_mixer: 'torch.nn:Conv2d'}", ("cannot be built", "TypeError")),
    ],
)
def test_a_variant_that_builds_no_network_is_named(tmp_path, content, words):
    file = tmp_path / "mine.yaml"
    file.write_text(f"title: Mine\ndescription: Wrong.\n{content}\n")
    variant = variants.load(file)
    with pytest.raises(UserError) as caught:
        variant.network.factory(4)
    assert all(word in str(caught.value) for word in ("mine.yaml", *words)), caught.value
    assert "\n" not in str(caught.value)
