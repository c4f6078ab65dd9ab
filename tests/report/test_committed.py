"""What is committed of real studies: the tables follow from the numbers beside them, and nobody's images are there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from safmn import cli
from safmn.paths import ROOT


def committed() -> list[str]:
    """The files below `results/` that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z", "results"], cwd=ROOT, capture_output=True, text=True, check=False)
    return [name for name in listed.stdout.split("\0") if name.count("/") > 1]


STUDIES = sorted({name.split("/")[1] for name in committed()})
MAX_BYTES = 20_000_000


@pytest.mark.parametrize("study", STUDIES)
def test_tables_rendered_again_have_the_same_bytes(study, tmp_path, capsys):
    folder = tmp_path / study
    for name in committed():
        if name.startswith(f"results/{study}/"):
            target = tmp_path / name.removeprefix("results/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    rendered = ["cells.csv", *(f"tables/{file.name}" for file in sorted((folder / "tables").iterdir()))]
    assert len(rendered) == 1 + 6 * 3 + 2
    before = {name: (folder / name).read_bytes() for name in rendered}
    for name in rendered:
        (folder / name).unlink()
    assert cli.main(["tables", "--study", str(folder / "study.json"), "--results", str(folder)]) == 0
    differing = [name for name in rendered if (folder / name).read_bytes() != before[name]]
    assert not differing, "rendered differently now: run scripts/publish on results/<study> and commit what it writes"


def test_the_overview_rendered_again_has_the_same_bytes(tmp_path):
    out = tmp_path / "overview"
    folders = [f"results/{study}" for study in STUDIES]
    command = [sys.executable, "-m", "safmn", "overview", *folders, "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for form in ("md", "html", "csv"):
        committed_file = ROOT / f"results/overview.{form}"
        assert out.with_suffix(f".{form}").read_bytes() == committed_file.read_bytes(), "run `safmn overview results/*`"


def test_the_readmes_sentences_on_the_short_study_have_its_numbers():
    """Its table is generated and compared by `scripts/reference --check`."""
    folder = ROOT / "results/t291-cpu"
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    scores = [pd.read_csv(folder / f"quality/safmn/x4/seed{seed}_best/B100.csv")["psnr"].mean() for seed in range(3)]
    set5 = [pd.read_csv(folder / f"quality/safmn/x4/seed{seed}_best/Set5.csv")["psnr"].mean() for seed in range(3)]
    assert f"reaches {np.mean(set5):.2f} dB on Set5 at x4, the mean of three seeds" in text
    assert f"Three seeds of the baseline differ by {max(scores) - min(scores):.3f} dB on B100" in text

    assert f"which lies {scores[0] - np.mean(scores):.3f} dB below seed 0" in text

    def loss(name: str) -> str:
        best = pd.read_csv(folder / f"quality/{name}/x4/seed0_best/B100.csv")["psnr"].mean()
        return f"{np.mean(scores) - best:.2f} dB"

    assert loss("ln_none") == loss("ln_fbn")
    assert f"both lose {loss('ln_none')}" in text
    assert f"`LN → BN` loses {loss('ln_bn')}" in text
    assert f"it loses {loss('ln_bn_reference_ema')} after 4,000 iterations" in text
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("training/*/x4_seed*/run.json")]
    order = (folder / "figures/order.png").read_bytes()
    assert (ROOT / "docs/images/order.png").read_bytes() == order, "copy it: the README shows it"
    assert len(runs) == 29
    assert not any(run["collapse"] for run in runs)


def test_no_pixels_of_others_and_not_too_much_are_committed():
    files = committed()
    suffixes = {name.rpartition(".")[2] for name in files}
    assert suffixes <= {"csv", "md", "tex", "json", "html", "svg", "png", "txt", "safetensors"}
    assert not [name for name in files if "/inspection/" in name or ("/data/" in name and not name.endswith(".json"))]
    weights = [name for name in files if name.endswith(".safetensors")]
    assert all("/training/safmn/" in name and (ROOT / name).stat().st_size < 1_500_000 for name in weights)
    for name in files:
        text = (ROOT / name).read_bytes()
        assert not [path for path in (str(ROOT), str(ROOT.parent), str(Path.home())) if path.encode() in text], name
    assert sum((ROOT / name).stat().st_size for name in files) < MAX_BYTES
