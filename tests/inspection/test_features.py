"""Panels (b)-(g) of Figure 5 against Eq. (1)-(4), computed by hand from the weights."""

import numpy as np
import pytest
import torch
from torch import nn

from safmn import networks
from safmn.errors import UserError
from safmn.inspection import features
from safmn.networks import variants

LR = torch.randint(0, 256, (1, 3, 16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def built(name: str) -> nn.Module:
    torch.manual_seed(1)
    network = variants.discover()[name].build(4, n_blocks=2) if name in variants.discover() else networks.build(name, 4)
    return network.eval()


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A convolution with zeros around, one tap after the other; C x H x W, depth-wise where weight is C x 1 x k x k."""
    margin = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
    height, width = x.shape[1:]
    total = np.zeros((len(weight), height, width))
    for row in range(weight.shape[-2]):
        for column in range(weight.shape[-1]):
            part = padded[:, row : row + height, column : column + width]
            tap = weight[:, :, row, column]
            total += part * tap[:, 0, None, None] if weight.shape[1] == 1 else np.einsum("oi,ihw->ohw", tap, part)
    return total + bias[:, None, None]


def by_hand(network: nn.Module) -> dict[str, np.ndarray]:
    """The first SAFM's panels, from the first convolution and the weights, in float64."""
    from scipy.special import erf

    state = {key: value.double().numpy() for key, value in network.state_dict().items()}
    x = LR[0].double().numpy() / 255
    x = convolved(x, state["to_feat.weight"], state["to_feat.bias"])
    mean = x.mean(0)
    x = (x - mean) / np.sqrt(((x - mean) ** 2).mean(0) + 1e-6)
    x = x * state["feats.0.norm1.weight"][:, None, None] + state["feats.0.norm1.bias"][:, None, None]
    panels = {}
    for level, panel in enumerate("bcde"):
        group = x[9 * level : 9 * (level + 1)]
        side = 2**level
        pooled = group.reshape(9, 16 // side, side, 24 // side, side).max((2, 4))
        made = convolved(pooled, state[f"feats.0.safm.mfr.{level}.weight"], state[f"feats.0.safm.mfr.{level}.bias"])
        panels[panel] = made.repeat(side, 1).repeat(side, 2)
    together = np.concatenate([panels[panel] for panel in "bcde"])
    panels["f"] = convolved(together, state["feats.0.safm.aggr.weight"], state["feats.0.safm.aggr.bias"])
    panels["g"] = panels["f"] * 0.5 * (1 + erf(panels["f"] / np.sqrt(2))) * x
    return panels


def test_panels_are_what_the_equations_give():
    network = built("safmn")
    with torch.no_grad():  # a norm and biases that could be forgotten must not be 1 and 0
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    path, panels = features.capture(network, LR, 1)
    assert path == "feats.0.safm"
    assert list(panels) == list("bcdefg")
    for panel, expected in by_hand(network).items():
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(panels[panel].numpy(), expected, atol=1e-4)
        np.testing.assert_allclose(features.shown(panels[panel]).numpy(), expected.mean(0), atol=1e-4)


def test_the_last_block_is_the_default():
    network = built("safmn")
    path, panels = features.capture(network, LR)
    assert path == "feats.1.safm"
    with torch.no_grad():
        x = network.feats[0](network.to_feat(LR.float() / 255))
        expected = network.feats[1].safm(network.feats[1].norm1(x))[0]
    torch.testing.assert_close(panels["g"], expected)


def test_without_multi_scale_features_there_is_one_scale():
    _, panels = features.capture(built("no_mr"), LR)
    assert list(panels) == ["b", "f", "g"]
    assert panels["b"].shape == (36, 16, 24)


def test_without_aggregation_it_is_the_concatenation():
    _, panels = features.capture(built("no_fa"), LR)
    assert torch.equal(panels["f"], torch.cat([panels[panel] for panel in "bcde"]))


def test_without_modulation_the_output_is_the_attention():
    _, panels = features.capture(built("no_fm"), LR)
    torch.testing.assert_close(panels["g"], nn.functional.gelu(panels["f"]))


def test_a_watched_network_works_as_before_and_is_left_alone():
    network = built("safmn")
    with torch.no_grad():
        before = network(LR.float() / 255)
        features.capture(network, LR)
        assert torch.equal(network(LR.float() / 255), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize(("name", "block", "words"), [("safm_none", 0, "no SAFM"), ("espcn", 0, "no SAFM")])
def test_a_network_without_safm_is_refused(name, block, words):
    with pytest.raises(UserError, match=words):
        features.capture(built(name), LR, block)


@pytest.mark.parametrize("block", [-1, 3])
def test_a_block_that_is_not_there_is_refused(block):
    with pytest.raises(UserError, match="the network has 2"):
        features.capture(built("safmn"), LR, block)


def test_a_forward_that_passes_by_its_submodules_is_noticed(monkeypatch):
    network = built("safmn")
    safm = network.feats[1].safm
    monkeypatch.setattr(safm, "forward", lambda x: x)
    with pytest.raises(RuntimeError, match="passed by"):
        features.capture(network, LR)
