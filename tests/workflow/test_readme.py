"""The commands of README and tutorial run in their order; what would take minutes runs as a dry run."""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from safmn.data import images
from tests.forks import Forks
from tests.workflow.conftest import ROOT

README, TUTORIAL, OWN, DATA = (
    re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for page in ("README.md", "docs/tutorial.md", "docs/own-network.md", "docs/data.md")
)
"""The code blocks of a page: (language, text)."""
ELSEWHERE = (
    ("python3", "-m", "venv"),  # tests/package installs the package into an environment
    (".",),
    ("pip", "install"),
    ("safmn", "archive"),  # needs a study's results: tests/test_archive.py
    ("snakemake", "--report"),  # needs a finished study: tests/workflow/test_whole.py
)
"""Commands that other tests run, by their first words."""


def commands(block: str) -> list[str]:
    lines = [line.split("  #")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line]


def follow(blocks: list[tuple[str, str]], folder: Path, run: Callable[..., None], **environment: str) -> None:
    """Write the files that a page shows, and run its commands, in order, from a folder."""
    for language, text in blocks:
        if name := re.match(r"# (\S+/\S+)\n", text):
            (folder / name[1]).write_text(text, encoding="utf-8")
        for command in commands(text) if language == "sh" else []:
            words = shlex.split(command.replace("/path/to/", ""))
            if words[0] == "cd":
                folder /= words[1]
            elif not any(words[: len(first)] == list(first) for first in ELSEWHERE):
                run(words, folder, **environment)


@pytest.fixture(scope="module")
def run(forks, tmp_path_factory) -> Iterator[Callable[..., None]]:
    """Runs a command, which must succeed: Snakemake and make as a dry run."""
    modules = ("torch", "safmn.cli", "safmn.commands.train", "safmn.commands.evaluate", "safmn.cost.complexity")
    safmn = Forks(ROOT, tmp_path_factory.mktemp("forks"), *modules)

    def run(words: list[str], folder: Path, **environment: str) -> None:
        if words[0] == "make":
            finished = subprocess.run(["make", "--dry-run", *words[1:]], cwd=folder, capture_output=True, text=True)
        elif words[0] == "snakemake":
            dry = [] if "--list" in words else ["--dry-run", *([] if "--cores" in words else ["--cores", "1"])]
            finished = forks.run([*words, *dry], folder, **environment)
        else:
            finished = safmn.run(words, folder, **environment)
        assert finished.returncode == 0, f"{words}\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}"

    yield run
    safmn.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with what the README's commands name: a checkout, datasets, a picture."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("config", "workflow", "profiles", "Snakefile", "Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "ablations").mkdir()
    for file in (ROOT / "ablations").iterdir():
        (folder / "ablations" / file.name).symlink_to(file)
    random = np.random.default_rng(0)
    for dataset in ("Set5", "Set14", "B100", "T91", "BSDS200"):
        for name in ("baby", "bird") if dataset == "Set5" else range(12 if dataset == "BSDS200" else 2):
            picture = random.integers(0, 256, (128, 112, 3), dtype=np.uint8)
            images.write(folder / f"datasets/{dataset}/HR/{name}.png", picture)
    images.write(folder / "picture.png", random.integers(0, 256, (24, 16, 3), dtype=np.uint8))
    return folder


def test_the_readmes_commands_run(place, run):
    shown = [command for language, text in README if language == "sh" for command in commands(text)]
    assert {"make tables", "make test"} <= set(shown)
    assert len(shown) >= 12
    before = {file.relative_to(place) for file in place.rglob("*")}
    follow(README, place, run, SAFMN_ABLATIONS=str(place / "ablations"))
    assert images.read(place / "runs/larger.png").shape == (96, 64, 3)
    made = {file.relative_to(place) for file in place.rglob("*") if file.is_file()} - before
    ignored = subprocess.run(  # in a checkout, all but the variant that the page adds is ignored by git
        ["git", "check-ignore", "--no-index", "--stdin"],
        input="\n".join(map(str, made)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    left = made - set(map(Path, ignored.stdout.splitlines()))
    assert left == {Path("ablations/gated.yaml"), Path("ablations/my_mixers.py")}
    assert (place / "results/mini/tables/table3.md").exists()


def test_the_tutorials_commands_run(tmp_path, run):
    follow(TUTORIAL, tmp_path, run)
    assert (tmp_path / "my_first_ablation/ablations/plain.yaml").exists()


def test_the_study_of_own_images_runs(tmp_path, run):
    run(["safmn", "init", "project"], tmp_path)  # for a Snakefile without this repository's config/
    project = tmp_path / "project"
    random = np.random.default_rng(0)
    for number in range(24):
        picture = random.integers(0, 256, (192, 200, 3), dtype=np.uint8)
        images.write(project / f"datasets/my_images/HR/{number:02}.png", picture)
    follow(DATA, project, run)
    options = "--study config/my_study.yaml --data-root datasets --iterations 1 --out runs/no_fm"
    run(["safmn", "train", "no_fm", *options.split()], project)
    assert (project / "runs/no_fm/best.safetensors").exists()


def test_the_ways_to_add_a_network_are_followed_literally(tmp_path, run):
    """In an empty folder after `safmn init`: every file as it is shown, every command in its order."""
    run(["safmn", "init", "mine"], tmp_path)
    mine = tmp_path / "mine"
    (mine / "networks").mkdir()
    follow([block for block in OWN if block[0] != "text"], mine, run)
    for name in ("wide_no_ccm.yaml", "gated.yaml", "size.yaml", "tiny.yaml", "my_nets.py"):
        assert (mine / "ablations" / name).exists(), name
