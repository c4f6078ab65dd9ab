"""ShuffleMixer against the paper's figures and torch's own operations."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from safmn.cost import complexity
from safmn.networks.shufflemixer import ChannelNorm, ShuffleMixer, SplitShuffle


@pytest.mark.parametrize(
    ("scale", "params", "flops", "activations"),
    [(2, 393.94, 90.86, 832.20), (3, 414.74, 43.40, 404.49), (4, 410.58, 27.69, 269.11)],
)
def test_complexity(scale, params, flops, activations):
    counted = complexity.measure("shufflemixer", scale)
    assert counted["params"] / 1e3 == pytest.approx(params, abs=0.0055)
    assert counted["flops"] / 1e9 == pytest.approx(flops, abs=0.0055)
    assert counted["activations"] / 1e6 == pytest.approx(activations, abs=0.0055)


def test_norm_is_layer_norm_over_channels():
    norm = ChannelNorm(64)
    nn.init.uniform_(norm.weight)
    x = torch.randn(2, 64, 5, 3)
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (64,), norm.weight).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected)


def test_shuffle_is_a_channel_shuffle_of_the_half_that_changed_and_the_half_that_did_not():
    layer = SplitShuffle(64)
    x = torch.randn(2, 64, 5, 3)
    expected = nn.ChannelShuffle(8)(torch.cat((layer.fc(x[:, :32]), x[:, 32:]), 1))
    torch.testing.assert_close(layer(x), expected)


def test_keys_are_the_authors():
    keys = ShuffleMixer(4).state_dict().keys()
    for key in (
        "to_feat.weight",
        "blocks.0.net.0.norm1.body.weight",
        "blocks.4.net.1.spatial.bias",
        "blocks.0.net.1.mlp2.fc.2.weight",
        "blocks.3.conv.0.weight",
        "upsapling.3.weight",
        "tail.bias",
    ):
        assert key in keys
    assert "upsapling.3.weight" not in ShuffleMixer(2).state_dict()
    assert "to_feat.bias" not in keys


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_odd_sizes_and_gradients(scale):
    network = ShuffleMixer(scale)
    output = network(torch.rand(1, 3, 7, 11))
    assert output.shape == (1, 3, 7 * scale, 11 * scale)
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
