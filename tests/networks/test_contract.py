"""What every network that can be built by name must keep, whoever wrote it."""

import csv
import json
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from safmn import networks
from safmn.errors import UserError
from safmn.networks import weights

PUBLISHED = Path(__file__).parents[2] / "safmn" / "paper" / "numbers"
NAMES = networks.names()
ALL = [(name, scale) for name in NAMES for scale in networks.info(name).scales]

# The names that scripts outside this project rely on.
FIXED = {
    *("safmn", "safm_none", "ccm_none", "no_fm", "no_mr", "no_fa", "no_fm_mr", "no_fm_fa", "no_fm_mr_fa", "avg_pool"),
    *("nearest_pool", "gelu_none", "gelu_sigmoid", "ccm_se", "channel_mlp", "inverted_residual", "ln_none"),
    *("ln_none_low_lr", "ln_bn", "ln_fbn", "ln_l2", "blocks_4", "blocks_6", "blocks_12"),
    *("bicubic", "srcnn", "fsrcnn", "espcn", "vdsr", "lapsrn", "carn_m", "carn", "edsr_baseline", "imdn", "pan"),
    *("lapar_a", "ecbsr_m16c64", "smsr", "shufflemixer"),
}

# Parameters that the network owns but does not use at its scale: CARN's file holds an upsampler for each.
UNUSED = {
    (name, s): tuple(f"upsample.up{o}." for o in (2, 3, 4) if o != s) for name in ("carn", "carn_m") for s in (2, 3, 4)
}


def make(name: str, scale: int) -> nn.Module:
    torch.manual_seed(0)
    return networks.build(name, scale)


def picture(name: str, height: int, width: int, batch: int = 1) -> torch.Tensor:
    """Random values in [0, 1], always the same for the same size."""
    channels = 1 if networks.info(name).colour == "Y" else 3
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def test_the_fixed_names_are_there() -> None:
    assert not FIXED - set(NAMES)
    assert {"safmn_l", "safmn_ntire23", "safmn_pp"} <= set(NAMES)  # not in the paper
    assert len(NAMES) == len(set(NAMES))


# The column that labels a row. Table 5 is left out: its rows are operations inside one network.
LABELS = {1: "method", 2: "method", 3: "variant", 4: "n_blocks"}


@cache
def printed(table: int) -> dict[str, set[int]]:
    """Row label -> scales in the paper's table; x4 where the table has one scale only."""
    rows: dict[str, set[int]] = {}
    with open(PUBLISHED / f"table{table}.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row[LABELS[table]], set()).add(int(row.get("scale", 4)))
    return rows


@pytest.mark.parametrize("name", sorted(FIXED))
def test_it_says_what_it_is(name: str) -> None:
    network = networks.info(name)
    assert network.name == name
    assert network.title
    assert network.reference
    assert network.colour in ("RGB", "Y")
    assert network.rows
    for table in network.rows.keys() & LABELS:
        label = network.rows[table]
        assert label in printed(table), f"table {table} of the paper has no row {label!r}"
        assert printed(table)[label] <= set(network.scales)
    if 1 in network.rows:
        assert set(network.scales) == printed(1)[network.rows[1]]


def test_a_wrong_name_or_scale_is_one_line_of_advice() -> None:
    with pytest.raises(UserError, match="safmn"):
        networks.build("safnm", 4)
    for name in NAMES:
        with pytest.raises(UserError, match="x5") as caught:
            networks.build(name, 5)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "scale"), ALL)
@torch.no_grad()
def test_it_enlarges_pictures_of_odd_size(name: str, scale: int) -> None:
    module = make(name, scale).eval()
    for height, width in ((11, 17), (16, 9)):
        image = picture(name, height, width, batch=2)
        before = image.clone()
        output = module(image)
        assert output.shape == (2, image.shape[1], height * scale, width * scale)
        assert output.dtype == torch.float32
        assert output.isfinite().all()
        assert torch.equal(image, before), "the input was written to"
        # In eval mode a picture's result is its own, whatever shares the batch.
        torch.testing.assert_close(module(image[1:]), output[1:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "scale"), ALL)
@torch.no_grad()
def test_a_picture_of_a_few_pixels_works_or_is_refused_in_words(name: str, scale: int) -> None:
    module = make(name, scale).eval()
    for height, width in ((1, 1), (1, 3), (2, 1)):
        with suppress(UserError):
            output = module(picture(name, height, width))
            assert output.shape[-2:] == (height * scale, width * scale)
            assert output.isfinite().all()


@pytest.mark.parametrize(("name", "scale"), ALL)
@torch.no_grad()
def test_it_keeps_the_dtype_it_is_given(name: str, scale: int) -> None:
    module, image = make(name, scale).eval(), picture(name, 9, 8)
    single, double = module(image), module.double()(image.double())
    assert double.dtype == torch.float64
    # Nothing inside may have gone through single precision, nor depend on it: 1e-3 of the output's spread is generous.
    assert (single - double).abs().max() < 1e-3 * double.std()


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_gradients_reach_every_parameter(name: str, scale: int) -> None:
    module, image = make(name, scale).train(), picture(name, 16, 12, batch=2).requires_grad_()
    torch.manual_seed(0)
    (module(image) - 0.5).abs().mean().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad.abs().sum() > 0
    for key, parameter in module.named_parameters():
        if key.startswith(UNUSED.get((name, scale), ())) and (name, scale) in UNUSED:
            assert parameter.grad is None, f"{key} is used"
        elif parameter.requires_grad:
            assert parameter.grad is not None, f"{key} is not used"
            assert parameter.grad.isfinite().all(), key
            # The ReLU of a channel attention has four channels only: by chance all may be off.
            assert parameter.grad.abs().sum() > 0 or ".conv_du." in key, key


@pytest.mark.parametrize(("name", "scale"), ALL)
@torch.no_grad()
def test_saved_and_loaded_it_computes_the_same(name: str, scale: int, tmp_path: Path) -> None:
    module, image = make(name, scale), picture(name, 9, 12)
    for tensor in module.state_dict().values():  # not the initial values, which a loader could put back by accident
        if tensor.is_floating_point():
            tensor.mul_(1.01)
    path = tmp_path / "it.safetensors"
    weights.save(module, path, {"network": name, "scale": str(scale)})
    loaded = networks.load_weights(path, name, scale)
    assert not loaded.training
    assert loaded.state_dict().keys() == module.state_dict().keys()
    for key, tensor in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    assert torch.equal(loaded(image), module.eval()(image))


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_converting_its_own_state_changes_nothing(name: str, scale: int) -> None:
    """A file of this project without metadata goes the same way as the authors' files."""
    module = make(name, scale)
    convert = getattr(module, "convert_published", None)
    if convert is None:
        return
    state = module.state_dict()
    converted = convert(dict(state), scale)
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[key], state[key]) for key in state)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides_the_initial_weights(name: str) -> None:
    scale = networks.info(name).scales[-1]
    first, second = make(name, scale).state_dict(), make(name, scale).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_it_runs_on_the_meta_device_with_the_same_shapes(name: str, scale: int) -> None:
    """Memory and complexity are told without computing."""
    with torch.device("meta"):
        module = networks.build(name, scale).eval()
    assert {key: tensor.shape for key, tensor in module.state_dict().items()} == {
        key: tensor.shape for key, tensor in make(name, scale).state_dict().items()
    }
    with torch.no_grad():
        output = module(picture(name, 11, 17).to("meta"))
    assert output.device.type == "meta"
    assert output.shape[-2:] == (11 * scale, 17 * scale)


def test_the_published_rows_are_plain_json() -> None:
    """What is known about a network is written beside every figure."""
    for name in NAMES:
        network = networks.info(name)
        json.dumps(
            {"title": network.title, "rows": network.rows, "reference": network.reference, "scales": network.scales}
        )
