"""What happens before anything runs: names, validation, dry runs, style."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from safmn.cli import main
from safmn.errors import UserError
from safmn.networks import variants
from tests.workflow.conftest import MICRO, ROOT

PAPER = ["safmn", "safm_none", "ccm_none", "no_fm", "no_mr", "no_fa", "no_fm_mr", "no_fm_fa", "no_fm_mr_fa", "avg_pool"]
PAPER += ["nearest_pool", "gelu_none", "gelu_sigmoid", "ccm_se", "channel_mlp", "inverted_residual", "ln_none"]
PAPER += ["ln_none_low_lr", "ln_bn", "ln_fbn", "ln_l2", "blocks_4", "blocks_6", "blocks_12"]


FAMILY = ["safmn_l"]  # the authors' own beyond the paper
EXTRA = {"ln_bn_reference_ema": "ln_bn"}  # what the paper does not print -> the row that it stands beside


def test_the_variants_are_the_papers_in_its_order():
    found = list(variants.discover(ROOT / "ablations"))
    assert [name for name in found if name not in EXTRA] == PAPER + FAMILY
    assert len(found) == len(PAPER) + len(EXTRA) + len(FAMILY) == 26


@pytest.mark.parametrize(("name", "neighbour"), EXTRA.items())
def test_what_the_paper_does_not_print_stands_beside_its_own(name, neighbour):
    found = variants.discover(ROOT / "ablations")
    assert list(found).index(name) == list(found).index(neighbour) + 1
    assert found[name].network.rows == {}


@pytest.mark.parametrize("beside", ["ln_bm", "mine", "yours"])
def test_a_neighbour_must_be_of_the_paper(tmp_path, beside):
    (tmp_path / "yours.yaml").write_text('{title: "Yours", description: "has no row either"}')
    (tmp_path / "mine.yaml").write_text(f'{{title: "Mine", description: "x", beside: {beside}}}')
    with pytest.raises(UserError, match=f"mine.yaml: beside: '{beside}' must be another variant"):
        variants.discover(tmp_path)


def test_each_variant_is_a_target(snakemake):
    listed = snakemake("--list").stdout.split()
    assert {f"train_{name}" for name in [*PAPER, *EXTRA]} <= set(listed)


def test_a_study_that_must_fail_is_refused_by_a_dry_run(snakemake, micro):
    """In one line, as those of tests/test_study.py."""
    told = snakemake("--dry-run", "--configfile", micro(training=MICRO["training"] | {"batch": 0}))
    assert told.returncode != 0
    message = next(line for line in (told.stdout + told.stderr).splitlines() if "micro.yaml" in line)
    assert "training.batch: should be greater than or equal to 1, not 0" in message
    assert "Traceback" not in told.stderr


def test_a_variant_that_is_wrong_is_one_line_of_a_dry_run(snakemake, micro, tmp_path):
    """As those of tests/test_study.py and tests/test_fingerprint_users.py."""
    folder = tmp_path / "ablations"
    folder.mkdir()
    shutil.copyfile(ROOT / "ablations/safmn.yaml", folder / "safmn.yaml")
    (folder / "gated.yaml").write_text("title: x\ndescription: x\nnetwork: {mixer: broken:Gated}\n")
    (folder / "broken.py").write_text("x = 1\ndef (\n")
    told = snakemake("--dry-run", "--configfile", micro(variants=["safmn", "gated"]), SAFMN_ABLATIONS=str(folder))
    assert told.returncode != 0
    (message,) = (line for line in (told.stdout + told.stderr).splitlines() if "gated.yaml" in line)
    assert all(word in message for word in ("mixer", "SyntaxError", "line 2")), message
    assert "Traceback" not in told.stderr


def test_a_variant_that_is_wrong_and_not_asked_for_stops_nothing(snakemake, micro, tmp_path):
    shutil.copytree(ROOT / "ablations", tmp_path / "ablations")
    (tmp_path / "ablations/half.yaml").write_text("title: [\n")
    folder = str(tmp_path / "ablations")
    told = snakemake("--dry-run", "--configfile", micro(variants="all"), SAFMN_ABLATIONS=folder)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "train_half" not in told.stdout
    (warning,) = {line for line in (told.stdout + told.stderr).splitlines() if "half.yaml" in line}
    assert warning.startswith("left out: ")
    told = snakemake("--dry-run", "--configfile", micro(variants=["safmn", "no_fm"]), SAFMN_ABLATIONS=folder)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "half.yaml" not in told.stdout + told.stderr  # nobody asked


def test_reading_the_rules_waits_for_neither_torch_nor_matplotlib(micro, tmp_path):
    """Seconds of each start of Snakemake, and of each job on a cluster."""
    words = ["--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--cores", "1"]
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "snakemake", *words, "--dry-run", "--configfile", micro()],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert told.returncode == 0, told.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.stderr.splitlines() if "|" in line}
    assert {"snakemake", "safmn", "yaml"} <= imported
    assert not {"torch", "matplotlib", "scipy"} & imported
    assert "no_mr" not in told.stdout  # mini's variants are not merged into it


def test_the_environment_is_in_step_with_the_package():
    with open(ROOT / "pyproject.toml", "rb") as handle:
        wanted = tomllib.load(handle)["project"]["dependencies"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert next(each["pip"] for each in environment["dependencies"] if isinstance(each, dict)) == wanted


def test_the_constraints_pin_every_dependency():
    with open(ROOT / "pyproject.toml", "rb") as handle:
        project = tomllib.load(handle)["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    lines = (ROOT / "constraints.txt").read_text().lower().splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    assert {requirement.split(">=")[0].lower() for requirement in wanted} <= pinned
    assert "torch==2.13.0" in lines


@pytest.mark.parametrize("study", sorted((ROOT / "config").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_packaged_study_is_valid(study):
    assert main(["resolve", str(study)]) == 0
