"""A user's project: written by `safmn init`, run with the installed package, refused where it is not whole."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest

import safmn
from safmn import paths
from safmn.cli import main
from safmn.errors import UserError
from safmn.networks import variants
from tests.package.conftest import ROOT

MAJOR, MINOR = (int(number) for number in safmn.__version__.split(".")[:2])
FEW = ("--config", "iterations=2", "batch=1", "patch=16", "variants=safmn,gated")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A new project, as the present folder."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine"]) == 0
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path / "mine"


# --- with the installed package ---


def test_a_project_trains_its_variant_beside_the_papers(anywhere, tmp_path):
    anywhere("safmn", "init", "mine", cwd=tmp_path)
    mine = tmp_path / "mine"
    planned = anywhere("snakemake", "--dry-run", "--cores", "1", cwd=mine).stdout
    jobs = dict(line.split() for line in planned.split("Job stats:")[1].splitlines() if len(line.split()) == 2)
    ours = [file for file in (ROOT / "ablations").glob("*.yaml") if "in_all: false" not in file.read_text()]
    assert int(jobs["train"]) == len(ours) + 1
    assert int(jobs["tables"]) == 1
    for name in ("gated", "no_fm"):
        assert f"Train {name} x4 with seed 0." in planned
    elsewhere = ("--snakefile", mine / "Snakefile", "--directory", tmp_path / "elsewhere")
    planned = anywhere("snakemake", "--dry-run", "--cores", "1", "train_gated", *elsewhere, cwd=tmp_path).stdout
    assert "Train gated x4 with seed 0." in planned
    anywhere("snakemake", "--cores", "1", "train_gated", *FEW, cwd=mine)
    assert (mine / "results/own/training/gated/x4_seed0/best.safetensors").is_file()
    anywhere("safmn", "tables", "--study", "results/own/study.json", cwd=mine)
    with open(mine / "results/own/cells.csv", newline="", encoding="utf-8") as handle:
        cells = [cell for cell in csv.DictReader(handle) if cell["row"] == "gated"]
    assert {cell["table"] for cell in cells} == {"3"}
    assert "SAFM → gated convolution" in (mine / "results/own/tables/table3.md").read_text(encoding="utf-8")
    run = json.loads((mine / "results/own/training/gated/x4_seed0/run.json").read_text())
    assert run["specification"]["switches"] == {"mixer": "gates:Gated"}


def test_a_project_holds_nothing_of_the_package(project):
    """No code of it, no rule, no printed number, no path of this machine: what it needs, it takes from the package."""
    files = {file.relative_to(project).as_posix(): file for file in project.rglob("*") if file.is_file()}
    assert set(files) == {
        *(".gitignore", ".safmn-version", "README.md", "Snakefile", "profiles/default/profile.yaml"),
        *("config/study.yaml", "ablations/gated.yaml", "ablations/gates.py"),
    }
    ours = {file.read_bytes() for file in (ROOT / "safmn").rglob("*.py") if file.stat().st_size}
    assert not ours & {file.read_bytes() for file in files.values()}
    assert not [name for name, file in files.items() if str(ROOT) in file.read_text(encoding="utf-8")]
    assert len(files["Snakefile"].read_text().splitlines()) < 25


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        (".safmn-version", f"{MAJOR}.{MINOR + 1}.0", ("was made with", "install")),
        ("ablations/gates.py", "class Gated(nn.", ("gated.yaml", "never closed")),
    ],
)
def test_a_project_that_does_not_fit_stops_snakemake_in_one_line(anywhere, tmp_path, file, text, words):
    """Further mistakes are below: the same code refuses them."""
    anywhere("safmn", "init", "mine", cwd=tmp_path)
    (tmp_path / "mine" / file).write_text(text)
    told = anywhere("snakemake", "--dry-run", "--cores", "1", cwd=tmp_path / "mine", fails=True)
    said = told.stdout + told.stderr
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if words[0] in line]
    assert words[1] in line


# --- variants of two folders ---


def test_own_variants_stand_behind_the_papers_or_beside_a_row(project):
    papers = list(variants.discover(ROOT / "ablations"))
    last = max(place for place, name in enumerate(papers) if variants.discover()[name].network.rows) + 1
    assert list(variants.discover()) == [*papers[:last], "gated", *papers[last:]]  # before safmn_l, by name
    assert variants.discover()["gated"].file == project / "ablations/gated.yaml"
    text = (project / "ablations/gated.yaml").read_text()
    (project / "ablations/gated.yaml").write_text(f"{text}beside: no_fm\n")
    place = papers.index("no_fm") + 1
    variants._discover.cache_clear()
    assert list(variants.discover()) == [*papers[:place], "gated", *papers[place:]]


def test_own_variants_are_found_from_folders_below_or_by_name(project, monkeypatch):
    monkeypatch.chdir(project / "config")
    assert "gated" in variants.discover()
    monkeypatch.chdir(project.parent)
    assert "gated" not in variants.discover()
    # As a Snakefile does for its jobs, which may run in another folder.
    monkeypatch.setenv("SAFMN_PROJECT", str(project))
    assert "gated" in variants.discover()


def test_a_folder_that_is_named_replaces_all(project, tmp_path, monkeypatch):
    shutil.copytree(project / "ablations", tmp_path / "others")
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path / "others"))
    assert list(variants.discover()) == ["gated"]


def test_a_name_of_the_papers_is_refused(project, capsys):
    (project / "ablations/gated.yaml").rename(project / "ablations/no_fm.yaml")
    assert main(["list"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mine/ablations/no_fm.yaml" in line
    assert "rename" in line


def test_a_present_folder_that_is_gone_is_no_project(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert paths.project() is None


@pytest.mark.parametrize("whose", ["somebody else's workflow", "a checkout"])
def test_other_folders_are_no_project(tmp_path, monkeypatch, whose):
    if whose == "a checkout":
        for name in ("Snakefile", "ablations", "workflow"):
            (tmp_path / name).symlink_to(ROOT / name)
    else:
        (tmp_path / "ablations").mkdir()
        (tmp_path / "Snakefile").write_text("rule all: input: 'x'\n")
    monkeypatch.chdir(tmp_path)
    assert paths.project() is None
    assert list(variants.discover()) == list(variants.discover(ROOT / "ablations"))


# --- bad input ---


def refused(capsys, *words):
    """The one line in which a command refuses."""
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (f"{MAJOR}.{MINOR + 1}.0", ("made with safmn-harness", f"{MAJOR}.{MINOR + 1}.0", "install")),
        (f"{MAJOR + 1}.{MINOR}.0", ("made with safmn-harness", "install")),
        ("", ("no version such as", "write")),
        ("newest", ("no version such as", "write")),
        ("0.1\n0.2", ("no version such as", "write")),
        (b"\xff\xfe0", ("cannot read", "not a text", "write")),
        (None, ("cannot read", "Is a directory", "safmn init")),
    ],
)
def test_a_project_of_another_version_is_refused(project, capsys, version, words):
    file = project / ".safmn-version"
    file.unlink()
    if version is None:
        file.mkdir()
    else:
        file.write_bytes(version.encode() if isinstance(version, str) else version)
    line = refused(capsys, "list")
    assert all(word in line for word in (*words, "mine"))


def test_another_patch_release_is_taken(project):
    (project / ".safmn-version").write_text(f"{MAJOR}.{MINOR}.999\n")
    assert "gated" in variants.discover()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda mine: shutil.rmtree(mine / "ablations"), ("mine/ablations", "make it")),
        (lambda mine: (mine / ".safmn-version").unlink(), (".safmn-version", "write", "safmn init")),
    ],
)
def test_a_half_written_project_is_refused(project, capsys, spoil, words):
    spoil(project)
    line = refused(capsys, "list")
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda mine: (mine / "ablations/gated.yaml").write_text('title: "SAFM'), ("gated.yaml", "not valid YAML")),
        (lambda mine: (mine / "ablations/gated.yaml").write_text(""), ("gated.yaml",)),
        (lambda mine: (mine / "ablations/gates.py").unlink(), ("gated.yaml", "gates")),
        (lambda mine: (mine / "ablations/gates.py").write_text("class Gated(nn."), ("gated.yaml", "never closed")),
    ],
)
def test_a_half_written_variant_hides_no_other(project, capsys, monkeypatch, spoil, words):
    """It is refused where it is named, and is one warning in the list of all."""
    spoil(project)
    # The class of another test's project must not be what is built.
    monkeypatch.delitem(sys.modules, "gates", raising=False)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if "ablations" not in folder])
    assert main(["complexity", "gated"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(word in line for word in words), line
    variants._discover.cache_clear()
    assert main(["list"]) == 0
    listed = capsys.readouterr()
    (line,) = listed.err.splitlines()
    assert all(word in line for word in words), line
    assert "no_fm" in listed.out


def test_a_project_without_variants_of_its_own_is_whole(project):
    for file in (project / "ablations").iterdir():
        file.unlink()
    assert list(variants.discover()) == list(variants.discover(ROOT / "ablations"))


@pytest.mark.parametrize("is_folder", [True, False])
def test_init_overwrites_nothing(tmp_path, monkeypatch, capsys, is_folder):
    monkeypatch.chdir(tmp_path)
    target = Path("mine/notes.txt" if is_folder else "mine")
    target.parent.mkdir(exist_ok=True)
    target.write_text("mine")
    assert "new folder" in refused(capsys, "init", "mine")
    assert target.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_init_takes_an_empty_folder_and_makes_those_above(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "a/b c/new"):
        assert main(["init", str(tmp_path / name)]) == 0
        assert (tmp_path / name / "ablations/gated.yaml").is_file()
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o755
        assert not list(tmp_path.rglob(".safmn-init*"))


def test_init_fills_the_present_folder(tmp_path, monkeypatch):
    """A shell that stands in it must not be left in a folder that is gone."""
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    assert main(["init", "."]) == 0
    assert tmp_path.stat().st_ino == before
    assert {file.name for file in tmp_path.iterdir()} == {
        *(".gitignore", ".safmn-version", "README.md", "Snakefile", "ablations", "config", "profiles")
    }
    assert "gated" in variants.discover()


def test_an_init_that_cannot_finish_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert "No space left" in refused(capsys, "init", str(tmp_path / "mine"))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_named_as_project_must_be_one(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFMN_PROJECT", str(tmp_path))
    with pytest.raises(UserError, match="No such file"):
        paths.own_ablations()
