"""IMDN against the paper's figures and the authors' weights."""

import pytest
import torch

from safmn import networks
from safmn.cost import complexity, memory
from safmn.data import images
from safmn.networks.imdn import IMDN, ContrastAttention
from safmn.quality import psnr_y, ssim_y


@pytest.mark.parametrize(
    ("scale", "params", "flops", "activations"),
    [(2, 694.40, 158.85, 423.02), (3, 703.06, 71.54, 189.69), (4, 715.18, 40.91, 107.83)],
)
def test_complexity(scale, params, flops, activations):
    counted = complexity.measure("imdn", scale)
    assert counted["params"] / 1e3 == pytest.approx(params, abs=0.0055)
    assert counted["flops"] / 1e9 == pytest.approx(flops, abs=0.0055)
    assert counted["activations"] / 1e6 == pytest.approx(activations, abs=0.0055)


def test_memory_is_just_below_table_2():
    assert 0.98 * 203.44 < memory.predict("imdn", 4, 180, 320) / 2**20 <= 203.44


def test_contrast_is_the_standard_deviation_plus_the_mean():
    x = torch.rand(2, 64, 5, 7)
    attention = ContrastAttention()
    seen = []
    attention.conv_du.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    attention(x)
    expected = x.numpy().std((2, 3)) + x.numpy().mean((2, 3))
    torch.testing.assert_close(seen[0].flatten(1), torch.from_numpy(expected))


def test_a_flat_map_has_finite_gradients():
    attention = ContrastAttention()
    x = torch.ones(1, 64, 4, 4, requires_grad=True)
    attention(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_odd_sizes_and_gradients(scale):
    network = IMDN(scale)
    output = network(torch.rand(1, 3, 7, 11))
    assert output.shape == (1, 3, 7 * scale, 11 * scale)
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all()
        # The attention's ReLU has four channels only: by chance all may be off.
        assert parameter.grad.abs().sum() > 0 or ".conv_du." in name


@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 38.00, 0.9605), (4, 32.21, 0.8948)])
def test_published_weights_give_the_published_set5(scale, psnr, ssim, checkpoints, datasets):
    network = networks.load_weights(checkpoints / f"IMDN_x{scale}.pth", "imdn", scale)
    scores = []
    for path in sorted((datasets / "Set5/HR").glob("*.png")):
        low = images.read(datasets / f"Set5/LR_bicubic/X{scale}/{path.stem}x{scale}.png")
        high = images.read(path)[: low.shape[0] * scale, : low.shape[1] * scale]
        with torch.no_grad():
            output = network(torch.from_numpy(low).permute(2, 0, 1)[None] / 255)
        result = (output[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        scores.append((psnr_y(result, high, scale), ssim_y(result, high, scale)))
    assert len(scores) == 5
    assert sum(each for each, _ in scores) / 5 == pytest.approx(psnr, abs=5e-3)
    assert sum(each for _, each in scores) / 5 == pytest.approx(ssim, abs=1e-4)
