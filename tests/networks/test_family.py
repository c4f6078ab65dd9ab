"""The authors' networks that the paper does not have: SAFMN-L and their entries in two NTIRE challenges.

Expected counts: the task's and the authors' option file for SAFMN-L; the authors' results.txt for SAFMN++.
"""

import pytest
import torch
import torch.nn.functional as F

from safmn import networks
from safmn.cost import complexity
from safmn.errors import UserError
from safmn.networks import published_weights, variants
from safmn.report.joined import Joined
from safmn.study import Study

FAMILY = ("safmn_l", "safmn_ntire23", "safmn_pp")


def test_safmn_l_has_the_counts_of_its_authors():
    counted = complexity.measure("safmn_l", 4)
    assert counted["params"] == 5_600_816
    assert round(counted["flops"] / 1e9, 3) == 320.914
    assert round(counted["activations"] / 1e6, 2) == 521.15


def test_safmn_l_is_trained_by_its_authors_recipe():
    variant = variants.discover()["safmn_l"]
    assert variant.training == {
        "batch": 48,
        "patch": 48,
        "learning_rate": 3e-4,
        "minimum_learning_rate": 1e-6,
    }
    study = Study.load("mini")
    assert study.training_of("safmn_l").batch == 48


def test_the_entry_of_2023_is_counted_for_an_output_of_1280x720():
    """13.557 G and 75.68 M follow from fvcore and 320x180 pixels, not from the challenge's own 256x256."""
    counted = complexity.measure("safmn_ntire23", 4)
    assert counted["params"] == 237_000
    assert round(counted["flops"] / 1e9, 3) == 13.557
    assert round(counted["activations"] / 1e6, 2) == 75.68


def test_no_study_takes_them_unasked(tmp_path):
    for name in ("mini", "t291", "table1", "paper"):
        study = Study.load(name)
        assert not set(FAMILY) & {*study.variants, *study.networks}
    content = Study.load("mini").content | {"variants": ["safmn", "safmn_l"], "networks": ["safmn_pp", "imdn"]}
    study = Study.from_content(content, "a study that names them")
    assert study.variants == ["safmn", "safmn_l"]
    assert study.networks == ["imdn", "safmn_pp"]
    assert {"safmn_l", "safmn_pp"} <= set(study.timed)
    places = {(cell.table, cell.network) for cell in Joined(study, tmp_path).cells}
    assert {table for table, name in places if name == "safmn_l"} == {2, 3}
    assert {table for table, name in places if name == "safmn_pp"} == {1, 2}
    assert "safmn_ntire23" not in {name for _, name in places}


@torch.no_grad()
def test_the_entry_of_2023_is_its_description():
    """Written anew from the authors' description, position by position where that is short."""
    torch.manual_seed(0)
    network = networks.build("safmn_ntire23", 4).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    image = torch.rand(2, 3, 24, 37, dtype=torch.float64)
    weights = network.state_dict()

    x = F.conv2d(image, weights["to_feat.weight"], weights["to_feat.bias"], padding=1)
    norms = x.pow(2).sum((2, 3)).sqrt()
    for image_index in range(2):
        mean = sum(float(value) for value in norms[image_index]) / 36
        for channel in range(36):
            factor = float(norms[image_index, channel]) / (mean + 1e-6)
            gamma, beta = (float(weights[f"norm.{key}"][0, channel, 0, 0]) for key in ("gamma", "beta"))
            x[image_index, channel] = x[image_index, channel] * (1 + gamma * factor) + beta
    for block in range(8):
        parts = []
        for level, divisor in enumerate((1, 4, 8, 16)):
            part = x[:, 9 * level : 9 * level + 9]
            part = F.adaptive_max_pool2d(part, (24 // divisor, 37 // divisor)) if level else part
            part = F.conv2d(part, weights[f"feats.{block}.safm.mfr.{level}.weight"], padding=1, groups=9)
            rows, columns = (
                torch.arange(full) * size // full for full, size in ((24, part.shape[2]), (37, part.shape[3]))
            )
            parts.append(part[:, :, rows][..., columns])
        mixed = torch.einsum(
            "oi,nihw->nohw", weights[f"feats.{block}.safm.aggr.weight"][..., 0, 0], torch.cat(parts, 1)
        )
        x = F.gelu(mixed) * x + x
        hidden = F.gelu(F.conv2d(x, weights[f"feats.{block}.ccm.ccm.0.weight"], padding=1))
        x = torch.einsum("oi,nihw->nohw", weights[f"feats.{block}.ccm.ccm.2.weight"][..., 0, 0], hidden) + x
    x = F.conv2d(x, weights["to_img.0.weight"], weights["to_img.0.bias"], padding=1)
    expected = F.pixel_shuffle(x, 4) + F.interpolate(image, (96, 148), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(image), expected)


@torch.no_grad()
def test_safmn_pp_is_its_description():
    torch.manual_seed(0)
    network = networks.build("safmn_pp", 4).double().eval()
    image = torch.rand(1, 3, 16, 27, dtype=torch.float64)
    weights = network.state_dict()
    assert not [key for key in weights if key.endswith("bias")]
    x = F.conv2d(image, weights["to_feat.weight"], padding=1)
    for block in range(6):
        own = {
            key.removeprefix(f"feats.{block}."): value
            for key, value in weights.items()
            if key.startswith(f"feats.{block}.")
        }
        features = F.conv2d(x, own["conv1.proj.weight"], padding=1)
        first, others = features[:, :12], features[:, 12:]
        pooled = F.conv2d(F.adaptive_max_pool2d(first, (2, 3)), own["conv1.dwconv.weight"], padding=1, groups=12)
        gate = F.gelu(F.interpolate(pooled, (16, 27), mode="bilinear", align_corners=False))
        y = F.conv2d(F.gelu(torch.cat([others, gate * first], 1)), own["conv1.out.weight"])
        x = F.conv2d(F.gelu(F.conv2d(y, own["conv2.conv1.weight"], padding=1)), own["conv2.conv2.weight"]) + x
    expected = F.pixel_shuffle(F.conv2d(x, weights["to_img.0.weight"], padding=1), 4)
    expected += F.interpolate(image, (64, 108), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize(("name", "container"), [("safmn_ntire23", "params"), ("safmn_pp", "params_ema")])
def test_a_file_as_the_authors_wrap_it_loads(tmp_path, name, container):
    torch.manual_seed(0)
    network = networks.build(name, 4)
    torch.save({container: network.state_dict()}, tmp_path / "weights.pth")
    loaded = networks.load_weights(tmp_path / "weights.pth", name, 4)
    for key, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    with pytest.raises(UserError, match=name):
        networks.load_weights(tmp_path / "weights.pth", "safmn", 4)


def test_the_authors_weights_give_their_psnr(checkpoints, datasets):
    path = published_weights.at_hand("safmn_ntire23", 4, checkpoints)
    if path is None:
        pytest.skip("team15_SAFMN.pth is not at hand: `safmn fetch safmn_ntire23 --to DIR`, then SAFMN_CHECKPOINTS=DIR")
    from safmn.data import packed
    from safmn.quality import evaluation

    network = networks.load_weights(path, "safmn_ntire23", 4)
    scores = evaluation.evaluate(network, packed.open_pairs(datasets / "Set5", 4), 4)
    assert round(scores.psnr, 3) == 32.165
    assert round(scores.ssim, 4) == 0.8943
