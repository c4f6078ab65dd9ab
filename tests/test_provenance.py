"""Where results come from: every command that leaves one says so, and `provenance.json` gathers it."""

import getpass
import hashlib
import json
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

import safmn
from safmn import paths, provenance
from safmn.cli import main
from safmn.configuration import check
from safmn.errors import UserError
from safmn.report import origins
from safmn.report.measured import Results
from safmn.report.provenance import Provenance
from safmn.study import Study
from tests import small_study
from tests.report import fabricate

RECORDS = [
    f"{small_study.RUN}/run.json",
    "quality/ccm_none/x4/seed3_best/evaluation.json",
    "quality/ccm_none/x4/seed3_last/evaluation.json",
    "inspection/ccm_none/x4/seed3_best.json",
    "cost/complexity/ccm_none.json",
    "cost/complexity/bicubic.json",
    "cost/memory.json",
    "cost/runtime.json",
    "cost/operations.json",
]


@pytest.fixture(scope="module")
def made(small):
    """The results of a study, when its file was written, and when it was done."""
    times = (datetime.fromtimestamp((small / name).stat().st_mtime, UTC) for name in ("small.yaml", "done"))
    return small / "results/small", *times


@pytest.fixture
def results(made, tmp_path, monkeypatch):
    """A copy of it, below the present folder."""
    shutil.copytree(made[0], tmp_path / "results/small")
    shutil.copy(made[0].parents[1] / "small.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results/small"


def study():
    return Study.load("small.yaml")


def read(file):
    return json.loads(Path(file).read_text(encoding="utf-8"))


def collect(results):
    return origins.collect(study(), Results(results))


def of(record, file):
    return next(each for each in record["results"] if each["file"] == file)


# --- what every record names ---


@pytest.mark.parametrize("file", RECORDS)
def test_every_record_names_all_that_can_be_known_but_no_host_user_or_folder(made, file):
    results, began, ended = made
    content = (results / file).read_text(encoding="utf-8")
    assert not [word for word in ("somebody", str(results.parents[1]), str(paths.ROOT)) if word in content]
    facts = read(results / file)["provenance"]
    text = ("device", "torch", "python", "os", "cpu", "code_version")
    assert all(isinstance(facts[key], str) and facts[key] for key in text), facts
    assert not {platform.node(), getpass.getuser()} & {value for value in facts.values() if isinstance(value, str)}
    assert facts["cores"] >= 1
    assert facts["memory_mib"] > 100
    assert all(re.fullmatch("[0-9a-f]{64}", facts[key]) for key in ("specification", "code_sha256"))
    started = datetime.fromisoformat(facts["started"])
    assert began - timedelta(seconds=1) <= started <= ended
    assert 0 < facts["seconds"] <= (ended - began).total_seconds()
    if facts["device"] != "cuda":
        assert not facts.keys() & {"gpu", "driver", "cudnn"}  # nothing made on a CPU looks as if made on a GPU


def test_a_run_names_its_seed_its_images_and_what_was_asked(made):
    record = read(made[0] / RECORDS[0])
    facts = record["provenance"]
    assert facts["seed"] == 3
    text = json.dumps(record["specification"], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert facts["specification"] == hashlib.sha256(text.encode()).hexdigest()
    assert facts["data"] == {"mine[1:]": digest_of(made[0], "bc"), "mine[:1]": digest_of(made[0], "a")}
    assert facts["seconds"] == record["seconds"]
    for key in ("started", "code_version", "code_commit", "code_dirty", "code_sha256"):
        assert record["sessions"][0][key] == facts[key]


def digest_of(results, names):
    """The digest of a manifest by its definition, from the image files: PPM by OpenCV, LR as packed."""
    from safmn.data.packed import PackedPairs

    packed = PackedPairs(results / "data/mine/x4")
    lines = []
    for name in names:
        file = results.parents[1] / "home/somebody/mine/HR" / f"{name}.png"
        lr = packed.lr(packed.names.index(name))
        lines.append(f'{ppm(cv2.imread(str(file)))} {ppm(lr[..., ::-1])} "{name}"\n')
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def ppm(bgr: np.ndarray) -> str:
    written, data = cv2.imencode(".ppm", bgr)
    assert written
    return hashlib.sha256(data.tobytes()).hexdigest()


def test_an_evaluation_names_weights_and_files_by_their_contents(made):
    results = made[0]
    record = read(results / "quality/ccm_none/x4/seed3_best/evaluation.json")
    weights = (results / small_study.RUN / "best.safetensors").read_bytes()
    assert record["weights"] == {
        "file": f"results/small/{small_study.RUN}/best.safetensors",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "which": "only",
        "key": "",
    }
    scores = (results / "quality/ccm_none/x4/seed3_best/mine.csv").read_bytes()
    assert record["datasets"][0]["sha256"] == hashlib.sha256(scores).hexdigest()
    assert record["provenance"]["seed"] == 3
    assert list(record["provenance"]["data"].values()) == [digest_of(results, "a")]


def test_the_same_question_has_the_same_digest_and_another_one_another(made):
    records = [read(made[0] / file)["provenance"]["specification"] for file in RECORDS]
    assert len(set(records)) == len(records)


# --- the code ---


@pytest.fixture
def checkout(tmp_path):
    """A small git checkout laid out as this project is."""
    root = tmp_path / "checkout"
    for name in ("safmn/a.py", "workflow/rules/b.smk", "ablations/c.yaml", "Snakefile", "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / ".gitignore").write_text("results/\n__pycache__/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "-m", "first")
    return root


def git(root, *words):
    try:
        done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    return done.stdout.strip()


def test_a_clean_checkout_is_known_by_its_commit(checkout):
    found = provenance.code(checkout)
    assert found["code_version"] == safmn.__version__
    assert found["code_commit"] == git(checkout, "rev-parse", "HEAD")
    assert found["code_dirty"] is False


@pytest.mark.parametrize(
    ("file", "dirty", "other_code"),
    [
        ("safmn/a.py", True, True),  # tracked, and runs
        ("README.md", True, False),  # tracked
        ("ablations/mine.yaml", True, True),  # untracked, and may run
        ("safmn/mine.py", True, True),
        ("notes.txt", False, False),  # untracked, runs nowhere
        ("results/x/cells.csv", False, False),  # ignored
        ("safmn/__pycache__/a.pyc", False, False),
        ("safmn/.a.py.swp", True, False),  # git does not know that an editor left it
    ],
)
def test_what_makes_the_tree_dirty(checkout, file, dirty, other_code):
    before = provenance.code(checkout)
    (checkout / file).parent.mkdir(parents=True, exist_ok=True)
    (checkout / file).write_text("something else")
    after = provenance.code(checkout)
    assert after["code_dirty"] is dirty
    assert (after["code_sha256"] != before["code_sha256"]) is other_code
    assert after["code_commit"] == before["code_commit"]


def test_a_removed_or_renamed_file_is_other_code(checkout):
    before = provenance.code(checkout)["code_sha256"]
    (checkout / "safmn/a.py").rename(checkout / "safmn/b.py")
    assert provenance.code(checkout)["code_sha256"] != before


def test_without_git_the_version_and_the_digest_remain(checkout, monkeypatch):
    shutil.rmtree(checkout / ".git")
    found = provenance.code(checkout)
    assert (found["code_version"], found["code_commit"], found["code_dirty"]) == (safmn.__version__, None, None)
    assert found["code_sha256"]
    monkeypatch.setenv("PATH", "")
    assert provenance.code(paths.ROOT)["code_commit"] is None


def test_code_inside_somebody_elses_repository_has_not_its_commit(checkout):
    inner = checkout / "env" / "safmn-harness"
    shutil.copytree(checkout / "safmn", inner / "safmn")
    assert provenance.code(inner)["code_commit"] is None


def test_a_users_project_is_known_by_its_own_commit(checkout, tmp_path, monkeypatch):
    """Which may be that of a larger repository; what changed elsewhere in that does not matter."""
    project = checkout / "studies" / "mine"
    assert main(["init", str(project)]) == 0
    monkeypatch.chdir(project)
    before = provenance.code()
    assert before["project_commit"] == git(checkout, "rev-parse", "HEAD")
    assert before["project_dirty"] is True  # its variants are in no commit
    git(checkout, "add", ".")
    git(checkout, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "-m", "second")
    (checkout / "README.md").write_text("changed elsewhere")
    (project / "notes.txt").write_text("runs nowhere")
    clean = provenance.code()
    assert (clean["project_commit"], clean["project_dirty"]) == (git(checkout, "rev-parse", "HEAD"), False)
    assert clean["code_sha256"] == before["code_sha256"]
    with open(project / "ablations/gates.py", "a") as file:
        file.write("# changed\n")
    assert provenance.code()["project_dirty"] is True
    assert provenance.code()["code_sha256"] != clean["code_sha256"]
    shutil.rmtree(checkout / ".git")
    assert not provenance.code().keys() & {"project_commit", "project_dirty"}
    monkeypatch.chdir(tmp_path)
    assert not provenance.code().keys() & {"project_commit", "project_dirty"}


def test_looking_takes_no_lock(checkout):
    """A job must not fail, nor a person's commit, because both look at the tree."""
    lock = checkout / ".git/index.lock"
    lock.write_text("")
    assert provenance.code(checkout)["code_dirty"] is False
    assert lock.exists()


def test_paths_are_shown_without_the_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert provenance.shown("results/x/best.safetensors") == "results/x/best.safetensors"
    assert provenance.shown(tmp_path / "results/x.csv") == "results/x.csv"
    assert provenance.shown("/home/somebody/data/Set5") == "Set5"
    assert provenance.shown("../somebody/Set5") == "Set5"


# --- gathered ---


def test_a_finished_study_lacks_nothing(results):
    record = collect(results)
    assert {each["file"] for each in record["results"]} == set(RECORDS)
    assert all(each["lacks"] == [] for each in record["results"]), record["results"]
    assert record["missing"] == []
    assert record["seconds"] == pytest.approx(sum(read(results / file)["provenance"]["seconds"] for file in RECORDS))
    assert record["started"] == min(read(results / file)["provenance"]["started"] for file in RECORDS)
    assert record["data"] == {"mine/x4": read(results / "data/mine/x4/manifest.json")["digest"]}
    run = of(record, RECORDS[0])
    assert (run["what"], run["network"], run["scale"], run["seed"], run["sessions"]) == (
        "training",
        "ccm_none",
        4,
        3,
        1,
    )
    environment = record["environments"][run["environment"]]
    assert environment["code"]["code_commit"] == read(results / RECORDS[0])["provenance"]["code_commit"]
    assert environment["device"]["device"] == "cpu"
    assert environment["device"]["cudnn"] is None
    assert environment["host"]["cores"] >= 1


def test_the_file_is_checked_and_the_same_whenever_it_is_made(results):
    first = origins.write(study(), results).read_bytes()
    assert origins.write(study(), results).read_bytes() == first
    check(Provenance, json.loads(first), "provenance.json")
    for spoil in (
        lambda record: record["results"][0].pop("environment"),
        lambda record: record["results"][0].update(started="yesterday"),
        lambda record: record["results"][0].update(somebody="else"),
        lambda record: record["environments"][0]["code"].update(code_commit="main"),
        lambda record: record["data"].update({"Set5/x4": "unknown"}),
    ):
        record = json.loads(first)
        spoil(record)
        with pytest.raises(UserError, match=r"provenance\.json"):
            check(Provenance, record, "provenance.json")


def test_environments_are_told_apart_by_code_device_and_host_not_by_clocks(results):
    assert of(collect(results), RECORDS[1])["environment"] == of(collect(results), RECORDS[2])["environment"]
    changed = read(results / RECORDS[2])
    changed["provenance"] |= {"started": "2001-02-03T04:05:06+00:00", "temperature_c": 90.0, "clock_sm_mhz": 1.0}
    (results / RECORDS[2]).write_text(json.dumps(changed))
    record = collect(results)
    assert of(record, RECORDS[1])["environment"] == of(record, RECORDS[2])["environment"]
    assert record["started"] == "2001-02-03T04:05:06+00:00"
    changed["provenance"]["code_sha256"] = "0" * 64
    (results / RECORDS[2]).write_text(json.dumps(changed))
    record = collect(results)
    assert of(record, RECORDS[1])["environment"] != of(record, RECORDS[2])["environment"]


def test_what_is_missing_is_named_with_the_reason(results):
    (results / RECORDS[0]).unlink()
    (results / small_study.RUN / "failure.txt").write_text("the mixer fell apart\n")
    (results / RECORDS[1]).unlink()
    (results / "quality/ccm_none/x4/seed3_last").rename(results / "elsewhere")
    (results / "cost/runtime.json").write_text("{")
    (results / "cost/operations.json").unlink()
    record = collect(results)
    reasons = {each["file"]: each["reason"] for each in record["missing"]}
    assert reasons[RECORDS[0]] == "training failed: the mixer fell apart"
    assert "delete the CSV" in reasons[RECORDS[1]]
    assert reasons[RECORDS[2]] == "not evaluated yet: `snakemake`"
    assert "damaged" in reasons["cost/runtime.json"]
    assert reasons["cost/operations.json"] == "not measured yet: `snakemake`"
    assert len(record["results"]) == len(RECORDS) - 5
    check(Provenance, record, "provenance.json")


def test_times_are_missing_where_the_study_times_a_gpu_only(tmp_path):
    record = origins.collect(fabricate.study(efficiency={"cpu": False}), Results(tmp_path))
    reasons = {entry["what"]: entry["reason"] for entry in record["missing"]}
    only = "this study times networks on a GPU only (efficiency.cpu is false)"
    assert (reasons["runtime"], reasons["operations"]) == (only, only)
    assert reasons["memory"] == "not measured yet: `snakemake`"


def test_records_of_earlier_versions_say_what_they_lack(tmp_path):
    of_old = fabricate.study()
    fabricate.run(tmp_path, of_old, "safmn")
    fabricate.run(tmp_path, of_old, "no_fm", provenance=fabricate.GPU)
    fabricate.complexity(tmp_path, "safmn", 1, 2, 3)
    record = origins.collect(of_old, Results(tmp_path))
    assert {"code_commit", "started", "data"} <= set(record["results"][0]["lacks"])
    assert "driver" not in record["results"][0]["lacks"]  # a CPU has none
    assert {"driver", "cudnn"} <= set(record["results"][1]["lacks"])  # a GPU has
    counted = of(record, "cost/complexity/safmn.json")
    assert record["environments"][counted["environment"]]["further"] == {"fvcore": "0.1.5"}
    check(Provenance, record, "provenance.json")


NONSENSE = [None, [], "x", {"started": 5}, {"started": "soon"}, {"seed": "many"}, {"seconds": -1}, {"data": {"x": 1}}]
NONSENSE += [{"device": ["cpu"]}, {"code_dirty": "perhaps"}, {"code_commit": "main"}, {"cores": 2.5}, {"threads": {}}]


@pytest.mark.parametrize("facts", NONSENSE)
def test_a_record_with_nonsense_for_provenance_stops_nothing(results, facts):
    changed = read(results / RECORDS[2]) | {"provenance": facts}
    (results / RECORDS[2]).write_text(json.dumps(changed))
    origins.write(study(), results)


def test_a_damaged_manifest_stops_nothing(results):
    shutil.copytree(results / "data/mine/x4", results / "data/other/x4")
    (results / "data/mine/x4/manifest.json").write_text("{")
    record = read(origins.write(study(), results))
    assert list(record["data"]) == ["mine/x4"]  # as the copy calls itself; the damaged one is left out


def test_an_empty_study_has_provenance_too(tmp_path):
    record = read(origins.write(fabricate.study(), tmp_path))
    assert record["results"] == []
    assert record["started"] is None
    assert len(record["missing"]) == 2 + 4 + 2 + 2 + 3  # runs, evaluations, inspections, counts, measurements


# --- a run in several processes ---


def test_a_resumed_run_keeps_its_start_and_names_both_processes(results, monkeypatch, tmp_path):
    from safmn.training import loop
    from tests.training.workshop import Workshop

    workshop = Workshop(tmp_path / "workshop")
    monkeypatch.setenv("SAFMN_ABLATIONS", str(workshop.variants))
    monkeypatch.setattr(provenance.Begun, "__init__", begun_at("2001-01-01T00:00:00+00:00"))
    with pytest.raises(loop.Interrupted):
        workshop.train(tmp_path / "run", time_limit=0)
    monkeypatch.setattr(provenance.Begun, "__init__", begun_at("2001-01-02T00:00:00+00:00"))
    record = workshop.train(tmp_path / "run")
    starts = [session["started"] for session in record["sessions"]]
    assert starts == ["2001-01-01T00:00:00+00:00", "2001-01-02T00:00:00+00:00"]
    assert record["provenance"]["started"] == starts[0]
    assert record["provenance"]["seconds"] == record["seconds"]


def begun_at(when):
    def begin(self):
        self.started, self.code, self._clock = when, {"code_commit": None}, 0.0

    return begin


def test_a_state_of_an_earlier_version_goes_on(tmp_path, monkeypatch):
    """Its sessions do not say when they began."""
    from safmn.training import loop
    from tests.training.workshop import Workshop

    workshop = Workshop(tmp_path / "workshop")
    monkeypatch.setenv("SAFMN_ABLATIONS", str(workshop.variants))
    session = provenance.Begun.session
    monkeypatch.setattr(provenance.Begun, "session", lambda self, device: device)
    with pytest.raises(loop.Interrupted):
        workshop.train(tmp_path / "run", time_limit=0)
    monkeypatch.setattr(provenance.Begun, "session", session)
    record = workshop.train(tmp_path / "run")
    assert "started" not in record["sessions"][0]
    assert record["provenance"]["started"] == record["sessions"][1]["started"]
