"""Archives of a study that was trained by an earlier commit: other code is said, and hinders no check."""

import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from safmn import provenance
from safmn.archive import comparing, importing, makers
from safmn.archive.findings import CONFIRMED, NOTED, REFUTED, UNDECIDED
from safmn.archive.opening import Opened
from safmn.archive.steps import STEPS
from safmn.errors import UserError
from safmn.files import write_json
from safmn.report import cells
from tests import small_study
from tests.test_import import STAGES
from tests.test_verify import RUN, notes, reseal, verified

COMMIT = "1" * 40


def made_by(small, folder, name, old, new):
    """The archive `crate` of a study that was trained by an earlier commit, in whose `code` one file was another."""
    code = small_study.copy_code(small / "whole", folder / "code")
    text = (code / name).read_text()
    assert old in text
    (code / name).write_text(text.replace(old, new))
    shutil.copytree(small / "results", folder / "results")
    file = folder / RUN / "run.json"
    record = json.loads(file.read_text()) | {"key": small_study.key_by(code, file)}
    version = {"code_commit": COMMIT, "code_sha256": provenance.code(code)["code_sha256"], "code_dirty": False}
    record["provenance"] |= version
    record["sessions"][0] |= version
    write_json(file, record)
    with contextlib.chdir(folder):
        small_study.safmn("tables", "--study", "results/small/study.json")
        small_study.safmn("archive", "--study", "results/small/study.json", "--out", "crate", "--weights", "all")
    return folder


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """Such an archive; the step had a statement more."""
    statement = ("    def learn(", "    unused = 0\n\n    def learn(")
    return made_by(small, tmp_path_factory.mktemp("earlier"), "safmn/training/step.py", *statement)


def known_to_git(monkeypatch, code):
    def unpack(commit, folder, root=None):
        if commit == COMMIT:
            shutil.copytree(code, folder)
        return commit == COMMIT

    monkeypatch.setattr(provenance, "unpack", unpack)


@pytest.fixture
def earlier(trained, tmp_path, monkeypatch):
    """A copy of that archive; git knows the commit."""
    known_to_git(monkeypatch, trained / "code")
    return shutil.copytree(trained / "crate", tmp_path / "crate")


ALL = ("--retrain", "ccm_none", "--extrapolate", "ccm_none")


def test_all_steps_work_and_say_what_differs(small, earlier, capsys):
    status, steps, _ = verified(capsys, earlier, "--data-root", small / "home/somebody", *ALL)
    assert status == 0
    assert {name: step["verdict"] for name, step in steps.items()} == dict.fromkeys(STEPS, CONFIRMED)
    told = notes(steps["whole"], NOTED)
    assert any("commit 1111111111, another version than the archived one, made 1 result" in note for note in told)
    assert any("1 run (training/ccm_none/x4_seed3): trained by commit 1111111111;" in note for note in told)
    for name, words in (("retrained", "the same bytes: best.safetensors"), ("extrapolated", "are the same text")):
        (found,) = [each for each in steps[name]["findings"] if each["what"].startswith("ccm_none")]
        assert words in found["note"]
        assert "trained by commit 1111111111; the training code differs now: 1 piece of safmn.training" in found["note"]
        assert found["differing"] == ["safmn.training.step.TrainStep"]


@pytest.mark.parametrize("known", [True, False])
def test_other_results_of_other_code_refute_nothing(small, earlier, capsys, monkeypatch, known):
    if not known:
        monkeypatch.setattr(provenance, "unpack", lambda *_: False)
    history = earlier / RUN / "history.csv"
    lines = history.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace(lines[1].split(",")[2], "0.25")
    history.write_text("".join(lines))
    words = ("--data-root", small / "home/somebody", "--steps", "retrained", "extrapolated", *ALL)
    status, steps, _ = verified(capsys, earlier, *words)
    assert status == 0
    assert {step["verdict"] for step in steps.values()} == {UNDECIDED}
    (note,) = notes(steps["retrained"], UNDECIDED)
    assert "other bytes in history.csv" in note
    assert ("differs now" if known else "commit 1111111111 is in no repository here") in note
    for name in ("run.json", "history.csv"):  # with the code that is here, the same edit is refuted
        shutil.copyfile(small / "whole" / RUN / name, earlier / RUN / name)
    history.write_text("".join(lines))
    assert {step["verdict"] for step in verified(capsys, earlier, *words)[1].values()} == {REFUTED}


def refusal(small, crate, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError) as error:
        importing.take(Opened(crate, crate), str(small / "home/somebody"), None, STAGES)
    assert not list(Path().iterdir())
    return str(error.value)


def test_a_key_that_no_code_gives_is_refuted(small, earlier, tmp_path, monkeypatch, capsys):
    """Specification, images and code are what they were; only the key was made up, and the hashes made again."""
    file = earlier / RUN / "run.json"
    file.write_text(re.sub(r'"key": "\w+"', f'"key": "{"0" * 64}"', file.read_text()))
    reseal(earlier)
    _, steps, _ = verified(capsys, earlier, "--steps", "whole", "consistent")
    assert steps["whole"]["verdict"] == CONFIRMED
    told = "its key does not belong to its specification, code and data"
    assert f"{small_study.RUN}/run.json: {told}" in notes(steps["consistent"], REFUTED)
    assert "the key is not that of specification, images and code" in refusal(small, earlier, tmp_path, monkeypatch)


def test_keys_that_are_made_in_another_way_accuse_nobody(small, tmp_path, monkeypatch, capsys):
    rule = ('joined = "\\n".join(', 'joined = "\\t".join(')
    folder = made_by(small, tmp_path, "safmn/fingerprint.py", *rule)
    known_to_git(monkeypatch, folder / "code")
    capsys.readouterr()  # what making the archive printed
    _, steps, _ = verified(capsys, folder / "crate", "--steps", "whole", "consistent")
    assert {step["verdict"] for step in steps.values()} == {CONFIRMED}
    told = "the training code here is the same, but it gives another key: keys are made in another way now"
    assert any(told in note for note in notes(steps["whole"], NOTED))
    said = refusal(small, folder / "crate", tmp_path, monkeypatch)
    assert told in said
    assert "check out commit 1111111111" in said


@pytest.mark.parametrize("clean", [True, False], ids=["changes elsewhere", "changed code"])
def test_changes_that_are_not_in_the_code_are_not_named(trained, tmp_path, monkeypatch, clean):
    known_to_git(monkeypatch, trained / "code")
    archive = shutil.copytree(trained / "crate", tmp_path / "crate")
    (archive / "results/small/provenance.json").unlink()
    version = provenance.code(trained / "code")["code_sha256"] if clean else "2" * 64
    origin = {"code_commit": COMMIT, "code_sha256": version, "code_dirty": True}
    name = makers.Makers(Opened(archive, archive), tmp_path / "scratch").named(origin)
    assert name == "commit 1111111111" + ("" if clean else " with changes that are in no commit")


def test_an_import_names_runs_commit_code_and_a_way_on(small, earlier, tmp_path, monkeypatch):
    told = refusal(small, earlier, tmp_path, monkeypatch)
    assert told.startswith(
        "1 run (training/ccm_none/x4_seed3): trained by commit 1111111111; the training code differs"
    )
    assert "1 piece of safmn.training.step" in told
    assert "check out commit 1111111111 and run the study there" in told


def test_a_comparison_names_the_commits(small, earlier):
    results = earlier / "results/small"
    own = cells.read(results / "cells.csv")
    for cell in own:
        if cell.column == "mine_psnr" and cell.network == "ccm_none":
            object.__setattr__(cell, "measured", cell.measured + 1)
    cells.write(own, results / "cells.csv")
    with comparing.side(small / "results/small") as a, comparing.side(earlier) as b:
        (difference,) = comparing.compare(a, b)[0]
    assert re.fullmatch(r"code: \w{10} and 1111111111", difference.cause)


def test_the_code_of_a_commit_is_taken_from_git(tmp_path):
    repository = tmp_path / "clone"
    for name in ("Snakefile", "ablations/a.yaml", "safmn/a.py", "workflow/b.smk", "README.md"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(name)

    def git(*words):
        command = ["git", "-C", repository, "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "x")
    first, commit = provenance.code(repository)["code_sha256"], git("rev-parse", "HEAD")
    (repository / "safmn/a.py").write_text("another")
    git("commit", "--quiet", "--all", "--message", "y")
    assert provenance.unpack(commit, tmp_path / "code", repository)
    assert provenance.code(tmp_path / "code")["code_sha256"] == first
    assert not (tmp_path / "code/README.md").exists()
    assert not provenance.unpack("0" * 40, tmp_path / "none", repository)
    assert not provenance.unpack(commit, tmp_path / "nowhere", tmp_path)
