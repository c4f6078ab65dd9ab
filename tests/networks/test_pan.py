"""PAN against the paper's figures and the authors' weights."""

import pytest
import torch
import torch.nn.functional as F

from safmn import networks
from safmn.cost import complexity
from safmn.data import images
from safmn.networks.pan import PAN
from safmn.quality import psnr_y, ssim_y


@pytest.mark.parametrize(
    ("scale", "params", "flops", "activations"),
    [(2, 261.40, 70.57, 677.38), (3, 261.40, 39.13, 339.72), (4, 272.42, 28.21, 237.77)],
)
def test_complexity(scale, params, flops, activations):
    counted = complexity.measure("pan", scale)
    assert counted["params"] / 1e3 == pytest.approx(params, abs=0.0055)
    assert counted["flops"] / 1e9 == pytest.approx(flops, abs=0.0055)
    assert counted["activations"] / 1e6 == pytest.approx(activations, abs=0.0055)


@pytest.mark.parametrize(("scale", "tensors", "stages"), [(2, 140, 1), (3, 140, 1), (4, 146, 2)])
def test_only_x4_has_a_second_stage(scale, tensors, stages):
    keys = PAN(scale).state_dict().keys()
    assert len(keys) == tensors
    assert ("upconv2.weight" in keys) == ("att2.conv.weight" in keys) == ("HRconv2.weight" in keys) == (stages == 2)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_odd_sizes_and_gradients(scale):
    network = PAN(scale)
    output = network(torch.rand(1, 3, 7, 11))
    assert output.shape == (1, 3, 7 * scale, 11 * scale)
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_without_its_last_convolution_it_is_bilinear():
    network = PAN(3)
    torch.nn.init.zeros_(network.conv_last.weight)
    torch.nn.init.zeros_(network.conv_last.bias)
    x = torch.rand(1, 3, 5, 6)
    torch.testing.assert_close(network(x), F.interpolate(x, size=(15, 18), mode="bilinear"))


def test_published_weights_give_the_published_set5(checkpoints, datasets):
    network = networks.load_weights(checkpoints / "PANx4_DF2K.pth", "pan", 4)
    scores = []
    for path in sorted((datasets / "Set5/HR").glob("*.png")):
        low = images.read(datasets / f"Set5/LR_bicubic/X4/{path.stem}x4.png")
        high = images.read(path)[: low.shape[0] * 4, : low.shape[1] * 4]
        with torch.no_grad():
            output = network(torch.from_numpy(low).permute(2, 0, 1)[None] / 255)
        result = (output[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        scores.append((psnr_y(result, high, 4), ssim_y(result, high, 4)))
    assert len(scores) == 5
    assert sum(psnr for psnr, _ in scores) / 5 == pytest.approx(32.13, abs=5e-3)
    assert sum(ssim for _, ssim in scores) / 5 == pytest.approx(0.8948, abs=1e-4)
