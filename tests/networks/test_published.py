"""The published networks: counts and memory against Tables 1 and 2, outputs against the equations of their papers."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from safmn import networks
from safmn.cost import complexity
from safmn.data import bicubic as integer_bicubic
from safmn.data import images
from safmn.networks.bicubic import Bicubic
from safmn.networks.ecbsr import ECBSR, merge, plain_state
from safmn.networks.edsr import EDSR
from safmn.networks.imdn import ContrastAttention
from safmn.networks.lapar import LAPAR, WeightNormConv, dictionary
from safmn.networks.pan import PAN
from safmn.networks.shufflemixer import ChannelNorm, ShuffleMixer, SplitShuffle
from safmn.quality import psnr_y, ssim_y

# Parameters (thousands), FLOPs (10^9) and activations (10^6) that the definitions give, to two decimals.
COUNTS = {
    ("srcnn", 2): (57.28, 52.70, 89.40),
    ("srcnn", 3): (57.28, 52.74, 89.465),
    ("srcnn", 4): (57.28, 52.70, 89.40),
    ("fsrcnn", 2): (12.81, 2.87, 40.55),
    ("fsrcnn", 3): (12.81, 1.28, 18.55),
    ("fsrcnn", 4): (12.81, 0.72, 10.83),
    ("espcn", 2): (21.28, 4.88, 23.04),
    ("espcn", 4): (24.75, 1.42, 6.45),
    ("vdsr", 2): (664.70, 612.59, 1121.59),
    ("vdsr", 3): (664.70, 613.07, 1122.46),
    ("vdsr", 4): (664.70, 612.59, 1121.59),
    ("lapsrn", 2): (406.67, 94.10, 223.03),
    ("lapsrn", 4): (812.77, 117.49, 264.04),
    ("carn_m", 2): (414.81, 91.18, 655.03),
    ("carn_m", 3): (414.81, 46.17, 327.22),
    ("carn_m", 4): (414.81, 32.49, 226.89),
    ("carn", 2): (1591.96, 222.83, 522.32),
    ("carn", 3): (1591.96, 118.89, 268.19),
    ("carn", 4): (1591.96, 90.88, 193.71),
    ("edsr_baseline", 2): (1369.86, 316.25, 563.10),
    ("edsr_baseline", 3): (1554.50, 160.44, 284.79),
    ("edsr_baseline", 4): (1517.57, 114.23, 201.83),
    ("ecbsr_m16c64", 2): (594.88, 136.56, 251.60),
    ("ecbsr_m16c64", 4): (601.81, 34.54, 63.59),
    ("imdn", 2): (694.40, 158.85, 423.02),
    ("imdn", 3): (703.06, 71.54, 189.69),
    ("imdn", 4): (715.18, 40.91, 107.83),
    ("lapar_a", 2): (547.87, 175.28, 656.18),
    ("lapar_a", 3): (594.27, 118.64, 505.02),
    ("lapar_a", 4): (659.23, 98.69, 451.58),
    ("pan", 2): (261.40, 70.57, 677.38),
    ("pan", 3): (261.40, 39.13, 339.72),
    ("pan", 4): (272.42, 28.21, 237.77),
    ("shufflemixer", 2): (393.94, 90.86, 832.20),
    ("shufflemixer", 3): (414.74, 43.40, 404.49),
    ("shufflemixer", 4): (410.58, 27.69, 269.11),
    ("smsr", 2): (984.75, 223.80, None),  # Table 1 has no activations of SMSR
    ("smsr", 3): (993.40, 100.43, None),
    ("smsr", 4): (1005.52, 57.15, None),
}


@pytest.mark.parametrize(("name", "scale"), COUNTS)
def test_counts_are_those_of_the_papers_definitions(name, scale):
    counted = complexity.measure(name, scale)
    for key, unit, expected in zip(
        ("params", "flops", "activations"), (1e3, 1e9, 1e6), COUNTS[name, scale], strict=True
    ):
        assert expected is None or counted[key] / unit == pytest.approx(expected, abs=0.0055)


def quality(module: nn.Module, folder: Path, scale: int) -> tuple[float, float]:
    """Mean PSNR-Y and SSIM-Y over a dataset in EDSR's layout."""
    scores = []
    for file in sorted((folder / "HR").glob("*.png")):
        lr = images.read(folder / "LR_bicubic" / f"X{scale}" / f"{file.stem}x{scale}.png")
        with torch.no_grad():
            sr = module(torch.from_numpy(lr).permute(2, 0, 1)[None] / 255)[0]
        sr = (sr.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        hr = images.read(file)[: sr.shape[0], : sr.shape[1]]
        scores.append((psnr_y(sr, hr, scale), ssim_y(sr, hr, scale)))
    assert len(scores) == 5
    return tuple(np.mean(scores, axis=0))


# The margin of CARN-M is wide: its file comes from a later release of its code. For IMDN and PAN at x4 see
# tests/quality/test_evaluation.py.
@pytest.mark.parametrize(
    ("file", "name", "scale", "psnr", "ssim", "margin"),
    [
        ("IMDN_x2.pth", "imdn", 2, 38.00, 0.9605, 5e-3),
        ("carn_m.pth", "carn_m", 2, 37.53, None, 0.3),
        ("carn_m.pth", "carn_m", 3, 33.99, None, 0.3),
        ("carn_m.pth", "carn_m", 4, 31.92, None, 0.3),
    ],
)
def test_published_weights_give_the_published_set5(checkpoints, datasets, file, name, scale, psnr, ssim, margin):
    measured = quality(networks.load_weights(checkpoints / file, name, scale), datasets / "Set5", scale)
    assert measured[0] == pytest.approx(psnr, abs=margin)
    assert ssim is None or measured[1] == pytest.approx(ssim, abs=1e-4)


# The keys of the authors' files -> shapes
KEYS = {
    ("lapar_a", 4): {
        "decom_conv.weight": (72, 1, 5, 5),
        "w_conv.rgb_mean": (1, 3, 1, 1),
        "w_conv.head.0.weight_g": (32, 1, 1, 1),
        "w_conv.body.3.b2.body.2.weight_v": (32, 32, 3, 3),
        "w_conv.body.0.b0.res_scale.scale": (1,),
        "w_conv.body.1.reduction.bias": (32,),
        "w_conv.up.0.weight_v": (512, 32, 3, 3),
        "w_conv.tail.tail_k5.weight_v": (32, 32, 5, 5),
        "w_conv.tail.w_conv.weight_v": (72, 32, 3, 3),
    },
    ("shufflemixer", 4): {
        "to_feat.weight": (64, 3, 3, 3),
        "blocks.0.net.0.norm1.body.weight": (64,),
        "blocks.4.net.1.spatial.bias": (64,),
        "blocks.0.net.1.mlp2.fc.2.weight": (32, 64, 1, 1),
        "blocks.3.conv.0.weight": (80, 64, 3, 3),
        "upsapling.3.weight": (256, 64, 1, 1),
        "tail.bias": (3,),
    },
}


@pytest.mark.parametrize(("name", "scale"), KEYS)
def test_keys_are_the_authors(name, scale):
    state = networks.build(name, scale).state_dict()
    assert {key: tuple(state[key].shape) for key in KEYS[name, scale]} == KEYS[name, scale]


@pytest.mark.parametrize(("scale", "tensors", "stages"), [(2, 140, 1), (3, 140, 1), (4, 146, 2)])
def test_only_x4_has_a_second_stage(scale, tensors, stages):
    keys = PAN(scale).state_dict().keys()
    assert len(keys) == tensors
    assert ("upconv2.weight" in keys) == ("att2.conv.weight" in keys) == ("HRconv2.weight" in keys) == (stages == 2)
    shufflemixer = ShuffleMixer(scale).state_dict()
    assert ("upsapling.3.weight" in shufflemixer) == (stages == 2)
    assert "to_feat.bias" not in shufflemixer


# Bicubic


def keys_kernel(x: float) -> float:
    """The kernel for a = -0.5 in the textbook form, with a left standing."""
    a, x = -0.5, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def bicubic_matrix(length: int, scale: int) -> np.ndarray:
    """Weights of all pixels of a line, continued by its mirror images, for every output pixel."""
    result = np.zeros((length * scale, length))
    for i, j in itertools.product(range(length * scale), range(-4, length + 4)):
        mirrored = j % (2 * length)
        result[i, min(mirrored, 2 * length - 1 - mirrored)] += keys_kernel((i + 0.5) / scale - 0.5 - j)
    return result


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (1, 6), (2, 3)])
def test_bicubic_is_the_definition(shape, scale):
    image = np.random.default_rng(0).random(shape)
    enlarged = Bicubic(scale)(torch.from_numpy(image)[None, None])[0, 0].numpy()
    expected = bicubic_matrix(shape[0], scale) @ image @ bicubic_matrix(shape[1], scale).T
    np.testing.assert_allclose(enlarged, expected, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_agrees_with_the_integer_one_but_for_its_rounding(scale):
    # Mid greys only: the integer one clips between its passes.
    image = np.random.default_rng(1).integers(64, 192, (23, 31, 3), dtype=np.uint8)
    exact = 255 * Bicubic(scale)(torch.from_numpy(image / 255).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    rounded = integer_bicubic.upscale(image, scale).astype(float)
    # Half a level from each of its two roundings; the first one can grow by the kernel's absolute sum, below 1.3.
    assert np.abs(exact - rounded).max() < 0.5 + 0.5 * 1.3 + 1e-6


def test_bicubic_is_not_clamped():
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1
    enlarged = Bicubic(4)(step)
    assert enlarged.min() < -0.01
    assert enlarged.max() > 1.01


# Y networks


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_vdsr_without_its_residual_is_bicubic(scale):
    module, luma = networks.build("vdsr", scale), torch.rand(2, 1, 9, 7)
    nn.init.zeros_(module.output.weight)
    torch.testing.assert_close(module(luma), Bicubic(scale)(luma))


def test_vdsr_keeps_the_signal_alive_through_twenty_layers():
    module, luma = networks.build("vdsr", 2), torch.rand(1, 1, 16, 16)
    residual = module(luma) - module.enlarge(luma)
    assert 0.05 < residual.std() < 20


@pytest.mark.parametrize("scale", [2, 4])
def test_lapsrn_without_its_residuals_is_bilinear(scale):
    module, luma = networks.build("lapsrn", scale), torch.rand(1, 1, 9, 7)
    for level in module.levels:
        nn.init.zeros_(level.residual.weight)
    # Level by level, as two enlargements by two are not one by four; a rim is lost to the zero padding.
    expected = luma
    for _ in module.levels:
        expected = F.interpolate(expected, scale_factor=2, mode="bilinear")
    rim = slice(scale, -scale)
    torch.testing.assert_close(module(luma)[..., rim, rim], expected[..., rim, rim])


@pytest.mark.parametrize("name", ["srcnn", "fsrcnn", "espcn", "vdsr"])
def test_y_networks_commute_with_mirroring_their_weights_and_image(name):
    """A shifted transposed convolution or an unbalanced padding would show: both are half a pixel of displacement."""
    module, luma = networks.build(name, 2), torch.rand(1, 1, 24, 20)
    expected = module(luma).flip(-1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.flip(-1))
        if name == "espcn":  # the pixel shuffle's columns swap too
            for tensor in (module.last.weight, module.last.bias):
                tensor.copy_(tensor.unflatten(0, (2, 2)).flip(1).flatten(0, 1))
    mirrored = module(luma.flip(-1))
    if name == "fsrcnn":  # an odd kernel has no centre among an even number of outputs: it sits one to the left
        mirrored, expected = mirrored[..., :-1], expected[..., 1:]
    rim = slice(12, -12)
    torch.testing.assert_close(mirrored[..., rim, rim], expected[..., rim, rim], atol=1e-5, rtol=1e-4)


# CARN and EDSR, straight from the equations of their papers and the names in their files


def convolve(state: dict[str, Tensor], key: str, x: Tensor, groups: int = 1) -> Tensor:
    weight = state[f"{key}.weight"]
    return F.conv2d(x, weight, state[f"{key}.bias"], padding=weight.shape[-1] // 2, groups=groups)


def carn_m_by_hand(state: dict[str, Tensor], image: Tensor, scale: int) -> Tensor:
    def residual(key: str, x: Tensor) -> Tensor:
        y = F.relu(convolve(state, f"{key}.body.0", x, 4))
        y = F.relu(convolve(state, f"{key}.body.2", y, 4))
        return F.relu(convolve(state, f"{key}.body.4", y) + x)

    def cascade(key: str, x: Tensor, units: list) -> Tensor:
        outputs, current = [x], x
        for index, unit in enumerate(units, start=1):
            outputs.append(unit(current))
            current = F.relu(convolve(state, f"{key}c{index}.body.0", torch.cat(outputs, 1)))
        return current

    def block(key: str):
        return lambda x: cascade(f"{key}.", x, [lambda y: residual(f"{key}.b1", y)] * 3)

    mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(3, 1, 1)
    y = cascade("", convolve(state, "entry", image - mean), [block(f"b{index}") for index in (1, 2, 3)])
    for layer in (0, 3) if scale == 4 else (0,):
        key = f"upsample.up{scale}.body.{layer}"
        y = F.pixel_shuffle(F.relu(convolve(state, key, y, 4)), 2 if scale == 4 else scale)
    return convolve(state, "exit", y) + mean


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_carn_m_is_its_papers_equations(scale):
    module, image = networks.build("carn_m", scale), torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(module(image), carn_m_by_hand(module.state_dict(), image, scale), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["carn", "carn_m"])
def test_one_file_serves_three_scales(name):
    keys = [{key: tensor.shape for key, tensor in networks.build(name, s).state_dict().items()} for s in (2, 3, 4)]
    assert keys[0] == keys[1] == keys[2]


def edsr_by_hand(state: dict[str, Tensor], image: Tensor, scale: int) -> Tensor:
    """The authors' network with the authors' keys: range 0-255, mean shift by 1x1 convolutions."""
    x = y = convolve(state, "head.0", convolve(state, "sub_mean", image * 255))
    for block in range(16):
        y = y + convolve(state, f"body.{block}.body.2", F.relu(convolve(state, f"body.{block}.body.0", y)))
    y = convolve(state, "body.16", y) + x
    for layer in (0, 2) if scale == 4 else (0,):
        y = F.pixel_shuffle(convolve(state, f"tail.0.{layer}", y), 2 if scale == 4 else scale)
    return convolve(state, "add_mean", convolve(state, "tail.1", y)) / 255


# Not DIV2K's mean first: what the file says must win. Without a mean in the file, DIV2K's is taken.
@pytest.mark.parametrize(
    ("scale", "mean", "in_file"),
    [
        (2, [0.3, 0.4, 0.6], True),
        (3, [0.3, 0.4, 0.6], True),
        (4, [0.3, 0.4, 0.6], True),
        (2, [0.4488, 0.4371, 0.4040], False),
    ],
)
def test_edsr_reads_and_computes_what_its_authors_do(tmp_path, scale, mean, in_file):
    state = {key: tensor for key, tensor in EDSR(scale).state_dict().items() if key != "shift.mean"}
    for side, sign in (("sub", -1), ("add", 1)):
        state[f"{side}_mean.weight"] = torch.eye(3).view(3, 3, 1, 1)
        state[f"{side}_mean.bias"] = sign * 255 * torch.tensor(mean)
    torch.save({key: tensor for key, tensor in state.items() if in_file or "_mean" not in key}, tmp_path / "edsr.pt")
    module, image = networks.load_weights(tmp_path / "edsr.pt", "edsr_baseline", scale), torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(module(image), edsr_by_hand(state, image, scale), atol=1e-5, rtol=1e-4)


# ECBSR

STENCILS = {
    "conv1x1_sbx": [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
    "conv1x1_sby": [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
    "conv1x1_lpl": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
}


def trained_ecbsr(scale: int) -> dict[str, Tensor]:
    """Random weights of the trained form, with the authors' keys and shapes."""
    generator = torch.Generator().manual_seed(scale)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * (0.5 / shape[-1] if len(shape) == 4 else 0.1)

    state = {}
    for index, (inputs, outputs) in enumerate([(1, 64), *[(64, 64)] * 16, (64, scale**2)]):
        block = f"backbone.{index}"
        state |= {f"{block}.conv3x3.weight": draw(outputs, inputs, 3, 3) / inputs**0.5}
        state |= {f"{block}.conv3x3.bias": draw(outputs)}
        state |= {f"{block}.conv1x1_3x3.k0": draw(2 * outputs, inputs, 1, 1) / inputs**0.5}
        state |= {f"{block}.conv1x1_3x3.b0": draw(2 * outputs)}
        state |= {f"{block}.conv1x1_3x3.k1": draw(outputs, 2 * outputs, 3, 3) / outputs**0.5}
        state |= {f"{block}.conv1x1_3x3.b1": draw(outputs)}
        for edge, stencil in STENCILS.items():
            state |= {
                f"{block}.{edge}.k0": draw(outputs, inputs, 1, 1) / inputs**0.5,
                f"{block}.{edge}.b0": draw(outputs),
            }
            state |= {f"{block}.{edge}.scale": draw(outputs, 1, 1, 1), f"{block}.{edge}.bias": draw(outputs)}
            state |= {f"{block}.{edge}.mask": torch.tensor(stencil).float().expand(outputs, 1, 3, 3).clone()}
        if index < 17:
            state |= {f"{block}.act.weight": torch.rand(outputs, generator=generator)}
    return state


def ecbsr_by_hand(state: dict[str, Tensor], image: Tensor, scale: int) -> Tensor:
    """Branch by branch, with the rim between the 1x1 and the 3x3 convolution set to the bias of the 1x1."""
    x = image
    for index in range(18):
        own = {key.removeprefix(f"backbone.{index}."): t for key, t in state.items() if f"backbone.{index}." in key}

        def with_rim(branch: str, x: Tensor = x, own: dict[str, Tensor] = own) -> Tensor:
            hidden = own[f"{branch}.b0"].view(1, -1, 1, 1).repeat(len(x), 1, x.shape[2] + 2, x.shape[3] + 2)
            hidden[:, :, 1:-1, 1:-1] = F.conv2d(x, own[f"{branch}.k0"], own[f"{branch}.b0"])
            return hidden

        y = convolve(own, "conv3x3", x)
        y = y + F.conv2d(with_rim("conv1x1_3x3"), own["conv1x1_3x3.k1"], own["conv1x1_3x3.b1"])
        for edge, stencil in STENCILS.items():
            filtered = with_rim(edge).unflatten(1, (-1, 1)).flatten(0, 1)
            filtered = F.conv2d(filtered, torch.tensor(stencil).float()[None, None]).unflatten(0, (len(x), -1))[:, :, 0]
            y = y + own[f"{edge}.scale"].view(1, -1, 1, 1) * filtered + own[f"{edge}.bias"].view(1, -1, 1, 1)
        x = F.prelu(y, own["act.weight"]) if index < 17 else y
    return F.pixel_shuffle(x + image, scale)


@pytest.mark.parametrize("scale", [2, 4])
def test_weights_of_either_form_of_ecbsr_load(tmp_path, scale):
    state, x = trained_ecbsr(scale), torch.rand(2, 1, 9, 13)
    expected = ecbsr_by_hand(state, x, scale)
    assert (expected - F.interpolate(x, scale_factor=scale)).abs().max() > 0.01  # more than the skip connection
    for form in (state, plain_state(state)):
        torch.save(form, tmp_path / "it.pth")
        loaded = networks.load_weights(tmp_path / "it.pth", "ecbsr_m16c64", scale)
        with torch.no_grad():
            assert (loaded(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_1x1_and_a_3x3_convolution_are_merged():
    kernels = torch.randn(5, 3, 1, 1), torch.randn(5), torch.randn(4, 5, 3, 3), torch.randn(4)
    x = torch.randn(2, 3, 6, 7)
    expected = F.conv2d(F.conv2d(x, *kernels[:2]), *kernels[2:])
    torch.testing.assert_close(F.conv2d(x, *merge(*kernels)), expected, atol=1e-4, rtol=1e-4)


def test_ecbsr_is_plain():
    convolutions = [module for module in ECBSR(2).modules() if isinstance(module, nn.Conv2d)]
    slopes = [module for module in ECBSR(2).modules() if isinstance(module, nn.PReLU)]
    assert len(convolutions) == 18
    assert {module.kernel_size for module in convolutions} == {(3, 3)}
    assert [module.num_parameters for module in slopes] == [64] * 17


# IMDN, PAN, ShuffleMixer


def test_contrast_is_the_standard_deviation_plus_the_mean():
    x = torch.rand(2, 64, 5, 7)
    attention = ContrastAttention()
    seen = []
    attention.conv_du.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    attention(x)
    expected = x.numpy().std((2, 3)) + x.numpy().mean((2, 3))
    torch.testing.assert_close(seen[0].flatten(1), torch.from_numpy(expected))


def test_a_flat_map_has_finite_gradients():
    x = torch.ones(1, 64, 4, 4, requires_grad=True)
    ContrastAttention()(x).sum().backward()
    assert x.grad.isfinite().all()


def test_pan_without_its_last_convolution_is_bilinear():
    network = PAN(3)
    nn.init.zeros_(network.conv_last.weight)
    nn.init.zeros_(network.conv_last.bias)
    x = torch.rand(1, 3, 5, 6)
    torch.testing.assert_close(network(x), F.interpolate(x, size=(15, 18), mode="bilinear"))


def test_norm_is_layer_norm_over_channels():
    norm = ChannelNorm(64)
    nn.init.uniform_(norm.weight)
    x = torch.randn(2, 64, 5, 3)
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (64,), norm.weight).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected)


def test_shuffle_is_a_channel_shuffle_of_the_half_that_changed_and_the_half_that_did_not():
    layer, x = SplitShuffle(64), torch.randn(2, 64, 5, 3)
    expected = nn.ChannelShuffle(8)(torch.cat((layer.fc(x[:, :32]), x[:, 32:]), 1))
    torch.testing.assert_close(layer(x), expected)


# LAPAR


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
    originals = {f"parametrizations.weight.original{i}": t for i, t in enumerate((ours.weight_g, ours.weight_v))}
    theirs.load_state_dict({"bias": ours.bias} | originals)
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))
