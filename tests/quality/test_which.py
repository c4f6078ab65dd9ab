"""Commands on a file that holds raw and averaged weights: which they take, what they say, what they record."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from safmn import cli, networks
from safmn.data import bicubic, images

NAME, SCALE = "safmn", 2


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """both.pth with two sets of weights, raw.pth and ema.pth with one, and a benchmark of one image, lr.png."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    raw, ema = (networks.build(NAME, SCALE).state_dict() for _ in range(2))
    torch.save({"state_dict": raw, "state_dict_ema": ema, "epoch": 1}, "both.pth")
    torch.save(raw, "raw.pth")
    torch.save(ema, "ema.pth")
    lr = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    images.write(tmp_path / "lr.png", lr)
    hr = cv2.resize(lr, (48, 48))
    images.write(tmp_path / "set" / "LR_bicubic" / "X2" / "onex2.png", bicubic.downscale(hr, 2))
    images.write(tmp_path / "set" / "HR" / "one.png", hr)
    return tmp_path


def safmn(capsys: pytest.CaptureFixture, command: str) -> tuple[int, str, str]:
    status = cli.main([*command.split(), "--network", NAME, "--scale", str(SCALE), "--device", "cpu"])
    return status, *capsys.readouterr()


EMA = "both.pth holds several sets of weights: took the averaged ones, state_dict_ema, not state_dict"
RAW = "both.pth holds several sets of weights: took state_dict (not averaged), not state_dict_ema"
SAID = {"": EMA, " --which ema": EMA, " --which raw": RAW, " --which state_dict": RAW}


@pytest.mark.parametrize("option", SAID)
def test_upscale(folder: Path, capsys: pytest.CaptureFixture, option: str) -> None:
    status, _, said = safmn(capsys, f"upscale lr.png a.png --weights both.pth{option}")
    assert status == 0
    assert SAID[option] in said
    assert said.count("\n") == 1
    same = "ema.pth" if SAID[option] == EMA else "raw.pth"
    status, _, said = safmn(capsys, f"upscale lr.png b.png --weights {same}")
    assert (status, said) == (0, "")
    assert np.array_equal(images.read(folder / "a.png"), images.read(folder / "b.png"))


@pytest.mark.parametrize(
    ("option", "which", "key"), [("", "ema", "state_dict_ema"), (" --which raw", "raw", "state_dict")]
)
def test_evaluate_records_it(folder: Path, capsys: pytest.CaptureFixture, option: str, which: str, key: str) -> None:
    status, out, said = safmn(capsys, f"evaluate --weights both.pth{option} --data set --json --record r.json")
    assert status == 0
    assert SAID[option] in said
    record = json.loads(out)
    assert record == json.loads((folder / "r.json").read_text())
    assert (record["weights"]["which"], record["weights"]["key"]) == (which, key)
    _, out, _ = safmn(capsys, f"evaluate --weights {which}.pth --data set --json")
    alone = json.loads(out)
    assert (alone["weights"]["which"], alone["weights"]["key"]) == ("only", "")
    assert alone["datasets"][0]["psnr"] == record["datasets"][0]["psnr"]
    other = json.loads(
        safmn(capsys, f"evaluate --weights both.pth --which {'raw' if not option else 'ema'} --data set --json")[1]
    )
    assert other["provenance"]["specification"] != record["provenance"]["specification"]


def test_inspect_records_it(folder: Path, capsys: pytest.CaptureFixture) -> None:
    small = "--scene set --crop 24 --patch 16 --window 8 --steps 2"
    status, out, said = safmn(capsys, f"inspect --weights both.pth --which raw {small} --json")
    assert status == 0, said
    assert SAID[" --which raw"] in said
    assert json.loads(out)["weights"]["key"] == "state_dict"


def test_explain_tries_the_other_set(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """A number that was measured with the raw weights is explained by them."""
    _, out, _ = safmn(capsys, "evaluate --weights raw.pth --data set --json")
    published = f"{json.loads(out)['datasets'][0]['psnr']:.4f}"
    status, out, said = safmn(capsys, f"explain --weights both.pth --data set --published {published} --json")
    assert status == 0
    assert SAID[""] in said
    found = json.loads(out)
    assert (found["which"]["which"], found["which"]["key"]) == ("ema", "state_dict_ema")
    assert any("state_dict" in switch for switch in found["closing"])


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("upscale lr.png a.png --weights raw.pth --which ema", "raw.pth holds no averaged weights, only the top level"),
        ("evaluate --weights both.pth --which best --data set", "--which takes raw, ema or one of: state_dict"),
        ("evaluate --which raw --data set", "--which chooses among the weights of a file"),
    ],
)
def test_what_is_not_there_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture, command: str, expected: str
) -> None:
    status, out, said = safmn(capsys, command)
    assert (status, out) == (2, "")
    assert expected in said
    assert said.count("\n") == 1
    assert not (folder / "a.png").exists()
