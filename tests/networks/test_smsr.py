"""SMSR: the equality of its three forms where the masks are binary."""

import logging

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import FlopCountAnalysis
from torch import nn

from safmn import networks
from safmn.networks.smsr import DENSE, SMSR, SPARSE


def with_masks(scale: int, threshold: float = 0.0) -> SMSR:
    """A network whose spatial masks set about half of the pixels, or all or none with a `threshold` of -9 or 9."""
    torch.manual_seed(0)
    network = SMSR(scale).eval()
    for module in network.body:
        last = module.spa_mask[-1]
        nn.init.normal_(last.weight)
        last.bias.data = torch.tensor([threshold, 0.0])
        for convolution in module.body.body:
            convolution.weight.data *= 3  # so that what the masks remove is not negligible
    return network


def both_forms(network: SMSR, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        network.sparse = False
        dense = network(x)
        network.sparse = True
        return dense, network(x)


def test_only_the_channel_masks_are_not_counted():
    network = SMSR(2)
    assert sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in network.counted_parameters()) == (
        5 * 64 * 4 * 2
    )


@pytest.mark.parametrize("size", [(12, 16), (9, 13)])
def test_sparse_equals_dense(size):
    network = with_masks(2)
    x = torch.rand(2, 3, *size)
    for spatial, channels in zip(*network.forward_with_masks(x)[1:], strict=True):
        assert 0.1 < spatial.mean() < 0.9
        assert ((channels.mean(1) > 0.2) & (channels.mean(1) < 0.8)).all()
    dense, sparse = both_forms(network, x)
    torch.testing.assert_close(sparse, dense, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threshold", [-9e9, 9e9])
@pytest.mark.parametrize("channels", ["all dense", "all sparse", "mixed", "alternating layers"])
def test_sparse_equals_dense_at_the_extremes(threshold, channels):
    network = with_masks(2, threshold)
    for module in network.body:
        logits = module.body.ch_mask.data
        if channels != "mixed":
            kind = {"all dense": DENSE, "all sparse": SPARSE, "alternating layers": DENSE}[channels]
            logits[:] = 0
            logits[..., kind] = 1
            if channels == "alternating layers":
                logits[:, :, 1::2] = logits[:, :, 1::2].flip(3)
    x = torch.rand(1, 3, 8, 6)
    assert network.forward_with_masks(x)[1][0].mean() == (0.0 if threshold > 0 else 1.0)
    dense, sparse = both_forms(network, x)
    torch.testing.assert_close(sparse, dense, atol=1e-5, rtol=1e-5)


def test_with_every_pixel_important_it_is_a_plain_network():
    """A body whose masks remove nothing is four convolutions with ReLU and a 1x1 over their outputs."""
    body = with_masks(2).body[0].body
    x = torch.rand(1, 64, 6, 5)
    with torch.no_grad():
        features, outputs = x, []
        for convolution in body.body:
            features = F.conv2d(features, convolution.weight, padding=1).relu()
            outputs.append(features)
        expected = body.collect(torch.cat(outputs, 1))
        torch.testing.assert_close(body.dense_form(x, torch.ones(1, 1, 6, 5)), expected)
        assert (body.dense_form(x, torch.zeros(1, 1, 6, 5)) - expected).abs().max() > 0.01


def test_training_form_equals_evaluation_where_masks_are_binary():
    network = with_masks(3)
    for module in network.body:
        # So far apart that no Gumbel noise changes them and softmax gives 0 and 1 exactly.
        module.spa_mask[-1].weight.data *= 1e6
        module.body.ch_mask.data *= 1e6
    x = torch.rand(2, 3, 9, 12)
    with torch.no_grad():
        trained, spatial, channels = network.train().forward_with_masks(x)
        assert all(set(mask.unique().tolist()) == {0.0, 1.0} for mask in [*spatial, *channels])
        for form in both_forms(network.eval(), x):
            torch.testing.assert_close(form, trained, atol=1e-5, rtol=1e-5)


def test_the_sparse_form_takes_fewer_multiply_adds():
    network = with_masks(2)
    x = torch.rand(1, 3, 11, 14)
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    counts = {}
    for network.sparse in (True, False):
        with torch.no_grad():
            analysis = FlopCountAnalysis(network, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            counts[network.sparse] = analysis.total()
    assert counts[True] < 0.9 * counts[False]


def test_authors_file_loads(tmp_path):
    """The layout of `model_1000.pt` (99 tensors), written by its description."""
    network = with_masks(2)
    state = dict(network.state_dict())
    mean = state.pop("shift.mean").flatten()
    for side, sign in (("sub_mean", -255.0), ("add_mean", 255.0)):
        state[f"{side}.weight"] = torch.eye(3).view(3, 3, 1, 1)
        state[f"{side}.bias"] = sign * mean
    assert len(state) == 99
    assert {"body.4.body.ch_mask", "tail.0.bias", "body.0.spa_mask.5.weight", "body.0.ca.conv_du.2.bias"} <= set(state)
    torch.save(state, tmp_path / "model_1000.pt")
    loaded = networks.load_weights(tmp_path / "model_1000.pt", "smsr", 2)
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network(x))
