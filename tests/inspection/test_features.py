"""Panels (b)-(g) of Figure 5 against Eq. (1)-(3)."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from safmn import networks
from safmn.errors import UserError
from safmn.inspection import features
from safmn.networks import variants
from safmn.networks.safmn import SAFMN

LR = torch.randint(0, 256, (1, 3, 16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def built(name: str) -> nn.Module:
    torch.manual_seed(1)
    variant = variants.discover().get(name)
    network = SAFMN(4, **variant.switches | {"n_blocks": 2}) if variant else networks.build(name, 4)
    return network.eval()


def by_equations(network: nn.Module) -> dict[str, torch.Tensor]:
    """The first SAFM's panels by Eq. (1)-(3), from the layers of the network."""
    block = network.feats[0]
    x = block.norm1(network.to_feat(LR.float() / 255))
    panels = {}
    for level, (panel, group, convolve) in enumerate(zip("bcde", x.chunk(4, 1), block.safm.mfr, strict=True)):
        pooled = F.max_pool2d(group, 2**level)
        panels[panel] = convolve(pooled).repeat_interleave(2**level, 2).repeat_interleave(2**level, 3)
    panels["f"] = block.safm.aggr(torch.cat(list(panels.values()), 1))
    panels["g"] = F.gelu(panels["f"]) * x
    return {panel: tensor[0] for panel, tensor in panels.items()}


def test_panels_are_what_the_equations_give():
    network = built("safmn")
    with torch.no_grad():  # a norm and biases that could be forgotten must not be 1 and 0
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        expected = by_equations(network)
    path, panels = features.capture(network, LR, 1)
    assert path == "feats.0.safm"
    assert list(panels) == list("bcdefg")
    for panel in panels:
        assert expected[panel].abs().max() > 0.01
        torch.testing.assert_close(panels[panel], expected[panel])
        torch.testing.assert_close(features.shown(panels[panel]), expected[panel].mean(0))


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


@pytest.mark.parametrize(
    ("name", "block", "words"),
    [
        ("safm_none", 0, "no SAFM"),
        ("espcn", 0, "no SAFM"),
        ("safmn", -1, "the network has 2"),
        ("safmn", 3, "the network has 2"),
    ],
)
def test_a_safm_that_is_not_there_is_refused(name, block, words):
    with pytest.raises(UserError, match=words):
        features.capture(built(name), LR, block)


def test_a_forward_that_passes_by_its_submodules_is_noticed(monkeypatch):
    network = built("safmn")
    safm = network.feats[1].safm
    monkeypatch.setattr(safm, "forward", lambda x: x)
    with pytest.raises(RuntimeError, match="passed by"):
        features.capture(network, LR)
