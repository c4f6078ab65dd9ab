"""`safmn verify`: what is true is confirmed, and what was edited is found by the step that is there for it."""

import contextlib
import csv
import json
import random
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from safmn import provenance
from safmn.archive import agreeing, consistent, counted, evaluated, retrained, seal, whole
from safmn.archive.crate import METADATA
from safmn.archive.findings import CONFIRMED, NOT_CHECKED, REFUTED, UNDECIDED, Finding, Step
from safmn.archive.opening import Opened, opened
from safmn.archive.steps import STEPS
from safmn.cli import main
from safmn.commands import verify
from safmn.data import images
from safmn.data.archives import BadArchive
from safmn.quality import evaluation
from safmn.training import stopping
from tests import small_study

RUN = f"results/small/{small_study.RUN}"
QUALITY = "results/small/quality/ccm_none/x4"


@pytest.fixture
def crate(small, tmp_path):
    """A copy of the archive, to be edited."""
    shutil.copytree(small / "whole", tmp_path / "crate")
    return tmp_path / "crate"


def at(folder):
    return Opened(folder, folder)


def refuted(findings):
    return [finding.what for finding in findings if finding.verdict == REFUTED]


def reseal(folder):
    """What a forger does: sizes, hashes and the seal are computed again after an edit."""
    content = json.loads((folder / METADATA).read_text())
    for entity in content["@graph"]:
        if "File" in (entity["@type"] if isinstance(entity["@type"], list) else [entity["@type"]]):
            file = folder / entity["@id"]
            entity["contentSize"], entity["sha256"] = str(file.stat().st_size), provenance.of_file(file)
        if entity["@id"] == seal.IDENTIFIER:
            entity["value"] = seal.BLANK
    (folder / METADATA).write_text(json.dumps(content, indent=4, sort_keys=True))
    seal.write(folder / METADATA)


def zipped(folder, out):
    with zipfile.ZipFile(out, "w") as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, file.relative_to(folder).as_posix())
    return out


def verified(capsys, *words):
    """The exit status, and the verdict and the findings of each step."""
    status = main(["verify", *map(str, words), "--device", "cpu", "--json"])
    record = json.loads(capsys.readouterr().out)
    return status, {step["step"]: step for step in record["steps"]}, record


def notes(step, verdict):
    return [f"{each['what']}: {each['note']}" for each in step["findings"] if each["verdict"] == verdict]


# --- an archive as it was written ---


def test_all_steps_confirm_an_archive_and_a_review_changes_nothing(small, tmp_path, capsys):
    archive = zipped(small / "whole", tmp_path / "small.zip")
    before = zipfile.ZipFile(archive).read(METADATA)
    words = ("--data-root", small / "home/somebody", "--retrain", "ccm_none", "--extrapolate", "ccm_none")
    report = ("--reviewer", "Ada", "--out", tmp_path / "review.md", "--add-review")
    status, steps, record = verified(capsys, archive, *words, *report)
    assert status == 0
    assert {name: step["verdict"] for name, step in steps.items()} == dict.fromkeys(STEPS, CONFIRMED), steps
    assert all(step["cost"] for step in steps.values())
    assert "Ada" in record["paragraph"]
    assert record["paragraph"] in (tmp_path / "review.md").read_text()
    assert json.loads((tmp_path / "review.json").read_text()) == record
    (retrained_now,) = [each for each in steps["retrained"]["findings"] if each["what"].startswith("ccm_none")]
    assert retrained_now["note"].startswith(
        "the same bytes: best.safetensors, last.safetensors, last_raw.safetensors, h"
    )
    with zipfile.ZipFile(archive) as packed:
        assert packed.testzip() is None
        assert packed.read(METADATA) == before
    status, steps, again = verified(capsys, archive, "--steps", "whole")
    assert (status, again["seal"]) == (0, record["seal"])
    (told,) = again["earlier_reviews"]
    assert told.startswith("Ada, ")
    assert "retrained confirmed" in told


def test_a_review_of_another_content_is_named(small, crate, capsys):
    assert main(["verify", str(crate), "--steps", "whole", "--add-review", "--device", "cpu"]) == 0
    (crate / "results/small/cells.csv").write_text("")
    reseal(crate)
    _, _, record = verified(capsys.readouterr() and capsys, crate, "--steps", "whole")
    assert "of another content" in record["earlier_reviews"][0]


def test_without_data_weights_or_names_a_step_says_what_it_lacks(small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, steps, record = verified(capsys, small / "whole", "--steps", "evaluated", "retrained", "extrapolated")
    assert status == 0
    assert {step["verdict"] for step in steps.values()} == {NOT_CHECKED}
    assert "your data mine/x4" in notes(steps["evaluated"], NOT_CHECKED)[0]
    assert "--retrain VARIANT" in notes(steps["retrained"], NOT_CHECKED)[0]
    assert "Not checked: evaluated" in record["paragraph"]


def test_without_rocrate_the_rest_is_validated(small, monkeypatch):
    monkeypatch.setattr(whole, "find_spec", lambda name: None)
    findings = whole.profile(at(small / "whole"))
    assert [finding.verdict for finding in findings] == [CONFIRMED, NOT_CHECKED]
    assert "safmn-harness[archive]" in findings[1].note


# --- random edits ---


def edit(folder, names, draw):
    """Does one random thing to one random file; returns its name and what takes it back."""
    name = draw.choice(names)
    file = folder / name
    content = file.read_bytes()
    kind = draw.choice(["byte", "bit", "cut", "longer", "gone", "line", "digit", "other", "new"])
    place = draw.randrange(len(content))
    changed = content
    if kind == "byte":
        changed = content[:place] + bytes([(content[place] + draw.randrange(1, 256)) % 256]) + content[place + 1 :]
    elif kind == "bit":
        changed = content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]
    elif kind == "cut":
        changed = content[:place]
    elif kind == "longer":
        changed = content + b"\n"
    elif kind == "line":
        lines = content.splitlines(keepends=True)
        changed = b"".join(lines[: place % len(lines)] + lines[place % len(lines) + 1 :])
    elif kind == "digit":
        found = [each.start() for each in re.finditer(rb"[0-9]", content)] or [0]
        spot = draw.choice(found)
        changed = content[:spot] + (b"1" if content[spot : spot + 1] != b"1" else b"2") + content[spot + 1 :]
    elif kind == "other":
        changed = (folder / draw.choice(names)).read_bytes()
    if kind == "new":
        name = f"{name}.{draw.randrange(1000)}"
        (folder / name).write_bytes(content)
        return name, lambda: (folder / name).unlink()
    if kind == "gone":
        file.unlink()
    elif changed == content:
        return None, lambda: None
    else:
        file.write_bytes(changed)
    return name, lambda: file.write_bytes(content)


@pytest.mark.parametrize("count", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_random_edits_are_all_found_and_named(crate, count):
    draw = random.Random(0)
    names = sorted(at(crate).listed)
    results = [name for name in names if name.startswith("results/")]
    assert not refuted([*whole.seal(at(crate)), *whole.files(at(crate))])
    done = 0
    while done < count:
        name, undo = edit(crate, [*results, METADATA] if done % 2 else names, draw)
        if name is None:
            continue
        done += 1
        try:
            found = refuted([*whole.seal(at(crate)), *whole.files(at(crate))])
        except BadArchive:
            found = [METADATA]  # no JSON any more, or gone
        undo()
        assert name in found or (name == METADATA and "seal" in found), (done, name, found)
    assert not refuted([*whole.seal(at(crate)), *whole.files(at(crate))])


def test_bytes_of_a_zip_file_are_found_or_change_nothing(small, tmp_path):
    """A date in a zip file is no content: an edit there leaves every file and the seal as they are."""
    archive = zipped(small / "whole", tmp_path / "small.zip")
    content = archive.read_bytes()
    draw = random.Random(1)
    for _ in range(5):
        place = draw.randrange(len(content))
        archive.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        with contextlib.suppress(BadArchive), opened(archive) as found:
            if not refuted([*whole.seal(found), *whole.files(found)]):
                assert found.seals == at(small / "whole").seals
                assert found.files.keys() == at(small / "whole").files.keys()


# --- edits whose hashes were computed again: the records do not agree any more ---


def _number(crate):
    file = crate / QUALITY / "seed3_best/mine.csv"
    file.write_text(re.sub(r"(\d)(?=,[^,]*$)", lambda found: str((int(found[1]) + 1) % 10), file.read_text()))
    return f"{QUALITY}/seed3_best/mine.csv"


def _number_and_record(crate):
    """The score and all that is said about it; only the tables still follow from the old one."""
    folder = crate / QUALITY / "seed3_best"
    rows = list(csv.DictReader((folder / "mine.csv").read_text().splitlines()))
    rows[0]["psnr"] = repr(float(rows[0]["psnr"]) + 0.5)
    (folder / "mine.csv").write_text(
        "image,psnr,ssim\n" + "".join(f"{r['image']},{r['psnr']},{r['ssim']}\n" for r in rows)
    )
    record = json.loads((folder / "evaluation.json").read_text())
    entry = record["datasets"][0]
    entry["sha256"], entry["psnr"] = provenance.of_file(folder / "mine.csv"), float(rows[0]["psnr"])
    (folder / "evaluation.json").write_text(json.dumps(record))
    return "results/small/cells.csv"


def _exchanged(crate):
    first, second = (crate / RUN / f"{which}.safetensors" for which in ("best", "last_raw"))
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    return f"{RUN}/best.safetensors"


def _other_weights(crate):
    """Other numbers under the right names: only the evaluation's hash tells."""
    file = crate / RUN / "best.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    return f"{QUALITY}/seed3_best/evaluation.json"


def _history(crate):
    file = crate / RUN / "history.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    return f"{RUN}/history.csv"


def _validation(crate):
    file = crate / RUN / "history.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("3,")))
    return f"{RUN}/history.csv"


def _specification(crate):
    file = crate / RUN / "run.json"
    record = json.loads(file.read_text())
    record["specification"]["training"]["iterations"] = 500_000
    file.write_text(json.dumps(record))
    return f"{RUN}/run.json"


def _manifest(crate):
    file = crate / "results/small/data/mine/x4/manifest.json"
    record = json.loads(file.read_text())
    record["images"][0]["hr"]["sha256"] = "0" * 64
    file.write_text(json.dumps(record))
    return "results/small/data/mine/x4/manifest.json"


def _origin(crate):
    file = crate / "results/small/provenance.json"
    file.write_text(file.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    return "results/small/provenance.json"


EDITS = [_number, _exchanged, _other_weights, _history, _validation, _specification, _manifest]


@pytest.mark.parametrize("forge", EDITS, ids=lambda forge: forge.__name__)
def test_edits_with_hashes_computed_again_contradict_another_record(crate, forge):
    name = forge(crate)
    reseal(crate)
    assert not refuted([*whole.seal(at(crate)), *whole.files(at(crate))])
    assert name.removeprefix("results/small/") in refuted(agreeing.check(at(crate)))


@pytest.mark.parametrize("forge", [_number_and_record, _origin], ids=["score", "device"])
def test_edits_of_all_records_leave_tables_that_do_not_follow(crate, forge, tmp_path):
    name = forge(crate)
    reseal(crate)
    found = refuted(consistent.check(at(crate), tmp_path / "scratch"))
    assert name.removeprefix("results/small/") in found


def test_an_archive_of_another_code_version_says_which_files_differ(crate, tmp_path):
    file = crate / "safmn/report/cells.py"
    file.write_text(file.read_text() + "\n# another version\n")
    reseal(crate)
    (made, here) = whole.code(at(crate))
    assert "another version than the archived one, made 9 results" in made.note
    assert "safmn/report/cells.py" in here.note
    (crate / "results/small/tables/table3.md").write_text("x")
    findings = list(consistent.check(at(crate), tmp_path / "scratch"))
    assert "tables/table3.md" in refuted(findings)
    assert any(finding.verdict == UNDECIDED and "the code differs, too" in finding.note for finding in findings)


def test_an_unknown_variant_is_named_and_the_records_are_checked_all_the_same(crate, tmp_path):
    file = crate / "results/small/study.json"
    file.write_text(file.read_text().replace("ccm_none", "not_here"))
    findings = list(consistent.check(at(crate), tmp_path / "scratch"))
    assert findings[-1].verdict == NOT_CHECKED
    assert "not_here" in findings[-1].note
    assert any(finding.what.endswith("history.csv") and finding.verdict == CONFIRMED for finding in findings)


# --- own data ---


def test_data_that_differ_in_one_image_are_named_image_by_image(small, tmp_path, capsys):
    shutil.copytree(small / "home/somebody/mine", tmp_path / "data/mine")
    pixels = images.read(tmp_path / "data/mine/HR/b.png")
    pixels[0, 0, 0] ^= 1
    images.write(tmp_path / "data/mine/HR/b.png", pixels)
    words = ("--data-root", tmp_path / "data", "--extrapolate", "ccm_none")
    status, steps, _ = verified(capsys, small / "whole", "--steps", "evaluated", "extrapolated", *words)
    assert status == 0
    for step in steps.values():
        assert step["verdict"] == UNDECIDED
        assert "1 image with other HR pixels (b)" in notes(step, UNDECIDED)[0]
    assert "your data mine/x4 are not the archive's" in notes(steps["evaluated"], NOT_CHECKED)[0]


def test_missing_and_false_weights_are_found_by_the_evaluation(small, crate, capsys):
    _other = crate / RUN / "best.safetensors"
    shutil.copyfile(crate / RUN / "last_raw.safetensors", _other)
    (crate / RUN / "last.safetensors").unlink()
    words = ("--data-root", small / "home/somebody", "--steps", "evaluated")
    status, steps, _ = verified(capsys, crate, *words)
    assert status == 1
    assert "ccm_none x4 seed3_best on mine[:1]: a: " in notes(steps["evaluated"], REFUTED)[0]
    assert "does not hold its weights last" in notes(steps["evaluated"], NOT_CHECKED)[0]


def test_false_counts_are_found_by_counting(crate):
    for name in ("complexity/ccm_none", "memory"):
        file = crate / f"results/small/cost/{name}.json"
        text = file.read_text()
        wrong = re.sub(r'"(params|peak)": (\d+)', lambda found: f'"{found[1]}": {int(found[2]) + 1}', text, count=1)
        file.write_text(wrong)
    found = refuted(counted.check(at(crate), {"ccm_none", "safmn"}))
    assert found == ["ccm_none x2", "memory of safmn"]


def test_a_false_history_is_found_by_training_its_beginning(small, crate, capsys):
    file = crate / RUN / "history.csv"
    lines = file.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace(lines[1].split(",")[2], "0.25")
    file.write_text("".join(lines))
    words = ("--data-root", small / "home/somebody", "--steps", "extrapolated", "--extrapolate", "ccm_none", "no_fm")
    status, steps, _ = verified(capsys, crate, *words)
    assert status == 1
    assert "the line of iteration 2 is the first that differs" in notes(steps["extrapolated"], REFUTED)[0]
    assert "the archive has no run of no_fm; it has ccm_none" in notes(steps["extrapolated"], NOT_CHECKED)[0]


def test_an_interrupted_training_is_one_line(small, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise stopping.Interrupted(3, 15)

    monkeypatch.setattr(retrained.loop, "train", interrupted)
    words = ("--data-root", str(small / "home/somebody"), "--steps", "retrained", "--retrain", "ccm_none")
    assert main(["verify", str(small / "whole"), *words, "--device", "cpu"]) == 130
    assert capsys.readouterr().err.strip().splitlines() == ["safmn verify: interrupted"]


LINES = "iteration,learning_rate,l1_loss,validation_psnr_rgb\n{}"


@pytest.mark.parametrize(
    ("ours", "alike", "verdict"),
    [
        ("2,0.1,0.5,\n4,0.1,0.4,30.0\n", True, CONFIRMED),
        ("2,0.1,0.5,\n4,0.1,0.401,30.0\n", True, REFUTED),
        ("2,0.1,0.5,\n4,0.1,0.401,30.0\n", False, CONFIRMED),
        ("2,0.1,0.5,\n4,0.1,0.5,30.0\n", False, UNDECIDED),
        ("2,0.1,0.5,\n", False, REFUTED),
        ("", True, NOT_CHECKED),
    ],
)
def test_lines_are_the_same_text_or_close_on_another_device(ours, alike, verdict):
    theirs = "2,0.1,0.5,\n4,0.1,0.4,30.0\n6,0.1,0.3,\n"
    assert retrained.lines("run", LINES.format(theirs), LINES.format(ours), 4, alike, "").verdict == verdict


def test_a_history_with_other_columns_is_refuted():
    ours = "iteration,learning_rate,loss,gradient_norm,validation_psnr_rgb\n2,0.1,0.5,1.0,\n"
    assert retrained.lines("run", LINES.format("2,0.1,0.5,\n"), ours, 4, False, "").verdict == REFUTED


def test_another_device_has_the_stated_tolerance(crate, small, capsys):
    for file in crate.glob(f"{QUALITY}/*/evaluation.json"):
        file.write_text(file.read_text().replace('"torch": "', '"torch": "1.'))
    scores = crate / QUALITY / "seed3_best/mine.csv"
    name, psnr, ssim = scores.read_text().splitlines()[1].split(",")[:3]
    scores.write_text(f"image,psnr,ssim\n{name},{float(psnr) + 0.005!r},{ssim}\n")
    words = ("--data-root", small / "home/somebody", "--steps", "evaluated")
    status, steps, _ = verified(capsys, crate, *words)
    assert status == 0
    assert steps["evaluated"]["verdict"] == CONFIRMED
    assert any("torch 1." in each["note"] and "0.005 apart" in each["note"] for each in steps["evaluated"]["findings"])
    scores.write_text(f"image,psnr,ssim\n{name},{float(psnr) + 0.02!r},{ssim}\n")
    assert verified(capsys, crate, *words)[0] == 1


@pytest.mark.parametrize("figure", ["psnr", "ssim", "psnr_rgb", "ssim_rgb"])
def test_figures_in_rgb_are_compared_too(figure):
    again = evaluation.Evaluation((evaluation.Score("a", 30.0, 0.8, 28.0, 0.7),))
    archived = {"psnr": 30.0, "ssim": 0.8, "psnr_rgb": 28.0, "ssim_rgb": 0.7}
    reach = {"psnr": 1e-6, "ssim": 1e-6}
    assert evaluated.compared("x", {"a": archived}, again, reach, "").verdict == CONFIRMED
    found = evaluated.compared("x", {"a": archived | {figure: archived[figure] + 1e-3}}, again, reach, "")
    assert (found.verdict, f"a: {figure} " in found.note) == (REFUTED, True)
    older = {"a": {key: archived[key] for key in ("psnr", "ssim")}}
    assert evaluated.compared("x", older, again, reach, "").verdict == CONFIRMED


# --- refused, damaged ---


def _link(crate, out):
    (crate / "results/small/cells.csv").unlink()
    (crate / "results/small/cells.csv").symlink_to("/etc/passwd")
    return crate


def _absolute(crate, out):
    with zipfile.ZipFile(zipped(crate, out), "a") as packed:
        packed.writestr("/tmp/evil", b"x")
    return out


def _outside(crate, out):
    with zipfile.ZipFile(zipped(crate, out), "a") as packed:
        packed.writestr("results/../../evil", b"x")
    return out


def _bomb(crate, out):
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("results/small/cells.csv", bytes(100_000_000))
    return out


def _no_archive(crate, out):
    out.write_bytes(b"hello")
    return out


def _no_description(crate, out):
    (crate / METADATA).unlink()
    return crate


def _no_json(crate, out):
    (crate / METADATA).write_text("{")
    return crate


def _two_studies(crate, out):
    shutil.copytree(crate / "results/small", crate / "results/other")
    return crate


BAD = [_link, _absolute, _outside, _bomb, _no_archive, _no_description, _no_json, _two_studies]


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_archive_is_refused_by_the_first_step(crate, tmp_path, capsys, spoil):
    archive = spoil(crate, tmp_path / "bad.zip")
    status, steps, record = verified(capsys, archive)
    assert status == 1
    assert steps["whole"]["verdict"] == REFUTED
    assert {steps[name]["verdict"] for name in STEPS if name != "whole"} == {NOT_CHECKED}
    assert "REFUTED: whole" in record["paragraph"]
    assert not Path("/tmp/evil").exists()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.zip"], "nowhere.zip does not exist"),
        (["crate", "--iterations", "0"], "--iterations 0"),
        (["crate", "--out", "x.json"], "x.json"),
    ],
)
def test_mistakes_are_one_line(crate, tmp_path, capsys, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    assert main(["verify", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line


def test_damaged_records_stop_no_other_step(crate, capsys):
    (crate / QUALITY / "seed3_best/evaluation.json").write_text("[]")
    (crate / RUN / "run.json").write_text('{"specification": 3}')
    (crate / "results/small/provenance.json").write_text("null")
    status, steps, _ = verified(capsys, crate, "--steps", "whole", "consistent", "counted", "--networks", "bicubic")
    assert status == 1
    assert steps["whole"]["verdict"] == steps["consistent"]["verdict"] == REFUTED
    assert steps["counted"]["verdict"] == CONFIRMED


def test_the_worst_finding_is_the_verdict():
    step = Step("x", "", "")
    assert step.verdict == NOT_CHECKED
    for word in (NOT_CHECKED, CONFIRMED, UNDECIDED, REFUTED):
        step.findings.append(Finding("a", word))
        assert step.verdict == word


def test_the_commands_steps_are_those_that_there_are():
    assert tuple(STEPS) == verify.STEPS


def test_images_are_compared_one_by_one():
    from safmn.quality.evaluation import Evaluation, Score

    archived = {"a": {"psnr": 30.0, "ssim": 0.9}, "b": {"psnr": np.inf, "ssim": 1.0}}
    reach = {"psnr": 0.01, "ssim": 0.001}

    def verdict(*scores):
        return evaluated.compared("x", archived, Evaluation(tuple(scores)), reach, "").verdict

    assert verdict(Score("a", 30.009, 0.9), Score("b", np.inf, 1.0)) == CONFIRMED
    assert verdict(Score("a", 30.011, 0.9), Score("b", np.inf, 1.0)) == REFUTED
    assert verdict(Score("a", 30.0, 0.9), Score("b", 99.0, 1.0)) == REFUTED
    assert verdict(Score("a", 30.0, 0.9)) == REFUTED
    archived["a"] = {"psnr_rgb": 28.0}
    assert verdict(Score("a", 30.0, 0.9), Score("b", np.inf, 1.0)) == REFUTED
