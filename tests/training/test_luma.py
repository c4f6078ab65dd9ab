"""A network of colour Y: trained on Y of both images, against skimage's conversion and a trainer written out here."""

import csv
import math
import shutil

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr, ycbcr2rgb

from safmn import networks
from safmn.cost import memory
from safmn.data import bicubic
from safmn.errors import UserError
from safmn.networks import variants
from safmn.planning import disk
from safmn.quality import evaluation
from safmn.schema import RunSettings
from safmn.training import identity, trial, validation
from safmn.training.state import StateFolder

from .test_validation import Enlarge
from .workshop import contents


def luma(pixels: torch.Tensor) -> torch.Tensor:
    """Y in [0, 1] of a uint8 batch, N x 3 x H x W."""
    planes = rgb2ycbcr(pixels.permute(0, 2, 3, 1).numpy())[..., 0]
    return torch.from_numpy(planes / 255)[:, None].float()


def test_its_batches_are_of_y(workshop, tmp_path):
    run = workshop.training(tmp_path / "run", "espcn")
    for plane, pixels in zip(run.batch(3), run.sampler.batch(3), strict=True):
        assert plane.shape == (pixels.shape[0], 1, *pixels.shape[2:])
        torch.testing.assert_close(plane.float() / 255, luma(pixels), rtol=0, atol=1e-7)
    usual = workshop.training(tmp_path / "usual", "tiny")
    assert usual.batch == usual.sampler.batch


def test_three_iterations_by_hand(workshop, tmp_path):
    """L1 and 0.05 times the frequency term by automatic differentiation, Adam, cosine, EMA."""
    out = tmp_path / "run"
    workshop.train(out, "espcn", iterations=3, validate_every=3, run={"log_every": 1})
    run = workshop.training(tmp_path / "other", "espcn", iterations=3, validate_every=3)
    network = networks.build("espcn", 4)
    network.load_state_dict(run.kept.step.network.state_dict())
    average = {key: value.clone() for key, value in network.state_dict().items()}
    optimiser = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    with open(out / "history.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for iteration, row in enumerate(rows):
        lr, hr = map(luma, run.sampler.batch(iteration))
        difference = network(lr) - hr
        l1, frequency = difference.abs().mean(), torch.view_as_real(torch.fft.rfft2(difference)).abs().mean()
        assert float(row["l1_loss"]) == pytest.approx(l1.item(), rel=1e-5)
        assert float(row["fft_loss"]) == pytest.approx(0.05 * frequency.item(), rel=1e-5)
        for group in optimiser.param_groups:
            group["lr"] = 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * iteration / 3)) / 2
        optimiser.zero_grad()
        (l1 + 0.05 * frequency).backward()
        optimiser.step()
        for key, value in network.state_dict().items():
            average[key] = 0.9 * average[key] + 0.1 * value
    for file, expected in (("last_raw", network.state_dict()), ("last", average)):
        found = networks.load_weights(out / f"{file}.safetensors", "espcn", 4).state_dict()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=2e-5)


def test_the_choice_of_the_best_is_in_rgb_as_evaluation_measures(workshop, tmp_path):
    out = tmp_path / "run"
    record = workshop.train(out, "espcn", iterations=10)
    _, (held_out,) = workshop.stores()
    network = networks.load_weights(out / "best.safetensors", "espcn", 4)
    measured = evaluation.evaluate(network, held_out, 4, channels="Y")
    assert record["best"]["validation_psnr_rgb"] == pytest.approx(measured.mean("psnr_rgb"), abs=1e-4)


def test_rgb_of_y_by_definition():
    """Pixels of SR are Y of LR, repeated and made darker; skimage makes RGB of them and of LR's enlarged Cb and Cr."""
    generator = np.random.default_rng(0)
    lr = generator.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    hr = generator.integers(0, 256, (12, 18, 3), dtype=np.uint8)
    chroma = bicubic.upscale(np.floor(rgb2ycbcr(lr) + 0.5).astype(np.uint8), 2)[..., 1:]
    plane = np.round(np.kron(rgb2ycbcr(lr)[..., 0] * 0.813, np.ones((2, 2))))
    rgb = np.clip(ycbcr2rgb(np.dstack([plane, chroma]).astype(float)), 0, 1) * 255
    error = (np.floor(rgb + 0.5) - hr)[2:-2, 2:-2]
    expected = 10 * math.log10(255**2 / np.square(error).mean())
    assert validation.rgb_psnr_of_luma(Enlarge(2, 0.813, 0.0), [(lr, hr)], 2) == pytest.approx(expected, abs=1e-5)


def test_killed_and_resumed_it_has_the_same_bits(workshop, tmp_path, monkeypatch):
    changes = {"iterations": 12, "validate_every": 4, "loss": "own_training:TwoTerms", "run": {"save_every": 0}}
    workshop.train(tmp_path / "straight", "espcn", **changes)
    saved = []
    save = StateFolder.save

    def killed(self, iteration, state):
        save(self, iteration, state)
        saved.append(iteration)
        if iteration in (3, 8) and saved.count(iteration) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(StateFolder, "save", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            workshop.train(tmp_path / "killed", "espcn", **changes)
    workshop.train(tmp_path / "killed", "espcn", **changes)
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")


@pytest.mark.parametrize(
    ("loss", "fits", "other"), [("OneChannel", "espcn", "tiny"), ("ThreeChannels", "tiny", "espcn")]
)
def test_a_loss_is_tried_with_the_channels_of_the_network(workshop, loss, fits, other):
    def tried(network):
        specification = workshop._arguments(workshop.folder, network, 0, {"loss": f"own_training:{loss}"})[0]
        trial.check(specification, "{}.yaml".format)

    tried(fits)
    with pytest.raises(UserError, match=r"^loss.yaml: training.loss: it fails on a batch of 2 patches"):
        tried(other)


def test_memory_and_disk_are_predicted(workshop, tmp_path):
    specification = workshop._arguments(tmp_path, "espcn", 0, {})[0]
    predicted = memory.predict_training("espcn", 4, specification["training"])
    assert predicted["batch"] == 2 * 8 * 8 * 8 + 2 * 32 * 32 * 8  # two patches of Y, in float64
    sizes = disk.of_run(specification, RunSettings(save_every=0))
    workshop.train(tmp_path / "run", "espcn", iterations=10, run={"save_every": 0})
    written = sum(file.stat().st_size for file in (tmp_path / "run/state").glob("*.state"))
    assert 0.8 * written < sizes["states"] < 1.4 * written


def test_the_conversion_counts_for_networks_of_y_alone(workshop, tmp_path, monkeypatch):
    """One class, as RGB and as Y."""
    folder = shutil.copytree(workshop.variants, tmp_path / "variants")
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    text = 'title: "x"\ndescription: "x"\nnetwork: {class: "own_training:Anything"}\n'
    (folder / "plane.yaml").write_text(text + "colour: Y\n")
    (folder / "colours.yaml").write_text(text)
    variants._discover.cache_clear()
    plane, colours = map(identity.code_fingerprint, ("plane", "colours"))
    assert plane != colours
    monkeypatch.setattr(identity, "OF_LUMA", identity.OF_LUMA[:1])
    assert identity.code_fingerprint("plane") != plane
    assert identity.code_fingerprint("colours") == colours
