"""`safmn status`: one real run and its folder altered in every way that a study meets."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from safmn import locks
from safmn.cli import main
from safmn.data import packed
from safmn.files import write_json
from safmn.planning import status
from safmn.planning.status import differences
from safmn.study import Run, Study
from safmn.training import identity
from safmn.training.state import StateFolder

CONTENT = {
    "name": "micro",
    "description": "A few iterations",
    "scales": [4],
    "seeds": [0],
    "variants": ["safmn", "ccm_none"],
    "networks": ["bicubic"],
    "data": {"root": ".", "train": ["mine[1:]"], "validation": ["mine[:1]"], "test": ["mine[:1]"]},
    "training": {"iterations": 6, "batch": 1, "patch": 8, "validate_every": 3, "ema": 0.5},
    "run": {"log_every": 2},
}
RUN = Path("results/micro/training/ccm_none/x4_seed0")
TRAIN = ["train", "ccm_none", "--study", "micro.yaml", "--scale", "4", "--no-check", "--out", str(RUN)]


def draw_images(folder, seed):
    import numpy as np

    from safmn.data import images

    draw = np.random.default_rng(seed)
    for name in "abc":
        images.write(folder / f"{name}.png", draw.integers(0, 256, (48, 48, 3), np.uint8))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of two runs of which one is finished."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "mine" / "HR").mkdir(parents=True)
    draw_images(folder / "mine" / "HR", 0)
    (folder / "micro.yaml").write_text(yaml.safe_dump(CONTENT))
    with contextlib.chdir(folder):
        assert main(TRAIN) == 0
    return folder


@pytest.fixture
def place(finished, tmp_path, monkeypatch):
    """A copy of it, times of files included, as the present folder."""
    shutil.copytree(finished, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


def look(**changes):
    study = Study.from_content(CONTENT | changes, "micro.yaml")
    return status.look(study, study.results)


def of(record, variant="ccm_none"):
    return next(each for each in record["runs"] if each["variant"] == variant)


def newest_state():
    return max((RUN / "state").glob("*.state"))


def unfinish(iteration=4):
    """As if the run had been killed after a state at `iteration`: the final files are not there yet."""
    for name in ("best.safetensors", "last.safetensors", "last_raw.safetensors", "history.csv", "run.json"):
        (RUN / name).unlink()
    shutil.rmtree(RUN / "state")
    shutil.rmtree(RUN / "tensorboard")
    study = Study.from_content(CONTENT, "micro.yaml")
    key = identity.key_of(study.specification(Run("ccm_none", 4, 0)), fingerprints())
    folder = StateFolder(RUN / "state", key)
    folder.acquire()
    sessions = [{"from": 0, "to": 2, "seconds": 3.0}, {"from": 2, "to": iteration, "seconds": 1.0}]
    folder.save(iteration, {"sessions": sessions})
    folder.release()
    return folder


def fingerprints():
    store = packed.PackedPairs(Path("results/micro/data/mine/x4"))
    return [store.select(slice(1, None)).fingerprint, store.select(slice(None, 1)).fingerprint]


def snapshot(folder):
    def of_file(file):
        info = file.stat()
        content = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        return info.st_mtime_ns, info.st_size, content

    return {str(file): of_file(file) for file in sorted(folder.rglob("*"))}


# --- done ---


def test_one_done_and_one_not_started(place):
    before = snapshot(place)
    record = look()
    assert snapshot(place) == before
    done, other = of(record), of(record, "safmn")
    written = json.loads((RUN / "run.json").read_text())
    assert (done["state"], done["iteration"], done["iterations"]) == ("done", 6, 6)
    assert done["seconds"] == pytest.approx(written["seconds"])
    assert done["remaining_seconds"] == 0
    assert done["remarks"] == []
    assert (other["state"], other["iteration"]) == ("not started", 0)
    assert other["remaining_from"] == "other runs"
    assert other["remaining_seconds"] == pytest.approx(written["seconds"])  # as long as the one that is done
    totals = record["totals"]
    assert totals["states"] == {"done": 1, "not started": 1}
    assert (totals["iteration"], totals["iterations"]) == (6, 12)
    assert totals["remaining_seconds"] == totals["remaining_wall_clock_seconds"] == other["remaining_seconds"]
    assert record["stages"]["data"] == [1, 1]
    assert record["stages"]["quality"] == [0, 4]
    assert record["remarks"] == []


def test_times_that_only_a_gpu_would_measure_are_not_expected(place):
    assert look()["stages"]["cost"] == [0, 6]
    assert look(efficiency={"cpu": False})["stages"]["cost"] == [0, 4]
    (place / "results/micro/cost").mkdir()
    (place / "results/micro/cost/runtime.json").write_text("{}")
    assert look(efficiency={"cpu": False})["stages"]["cost"] == [1, 5]


def test_two_parts_of_one_test_set_have_two_files():
    data = {"train": ["mine[2:]"], "validation": ["mine[:1]"], "test": ["mine[:1]", "mine[1:2]"]}
    study = Study.from_content(CONTENT | {"data": data, "variants": ["safmn"]}, "x")
    assert status._stages(study, Path("nowhere"))["quality"] == [0, 4]


def test_nothing_there_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = look()
    assert {each["state"] for each in record["runs"]} == {"not started"}
    assert record["totals"]["remaining_unknown_runs"] == 2
    assert not any(tmp_path.iterdir())


def test_a_collapse_is_a_result(place):
    record = json.loads((RUN / "run.json").read_text())
    record |= {"outcome": "collapsed", "collapse": {"iteration": 4, "reason": "the loss is not finite"}}
    write_json(RUN / "run.json", record)
    found = look()
    assert (of(found)["state"], of(found)["iteration"]) == ("collapsed", 4)
    assert "the loss is not finite, at iteration 4" in of(found)["remarks"]
    assert found["totals"]["iteration"] == 6  # nothing of it is left to do


def test_missing_weights_are_not_done(place):
    (RUN / "best.safetensors").unlink()
    found = of(look())
    assert (found["state"], found["iteration"]) == ("interrupted", 6)
    assert any("best.safetensors" in remark for remark in found["remarks"])


def test_a_finished_run_without_weights_was_started(place):
    """Such as the committed results of this repository: weights and saved states are not passed on."""
    (RUN / "last.safetensors").unlink()
    shutil.rmtree(RUN / "state")
    found = of(look())
    assert (found["state"], found["remarks"]) == ("stale", ["last.safetensors is missing"])
    assert found["seconds"] > 0
    assert found["remaining_from"] == "own rate"


# --- stale, and why ---


def test_another_specification(place):
    found = of(look(training=CONTENT["training"] | {"fft_weight": 0.1}))
    assert (found["state"], found["iteration"]) == ("stale", 0)
    assert found["remarks"][0] == "specification: training.fft_weight 0.05, now 0.1"
    assert found["seconds"] > 0  # it was spent all the same
    assert found["remaining_seconds"] is None  # nothing has been trained like this
    # What does not enter a result does not make it stale.
    assert of(look(run={"log_every": 5, "save_every": 1}, description="other"))["state"] == "done"


def test_other_code(place, monkeypatch):
    monkeypatch.setattr(identity, "code_fingerprint", lambda *_: "other")
    found = of(look())
    assert found["remarks"] == ["code"]
    assert found["remaining_seconds"] == pytest.approx(found["seconds"])
    found = of(look(training=CONTENT["training"] | {"ema": 0.9}))
    assert found["remarks"] == ["specification: training.ema 0.5, now 0.9; code"]


def test_other_data(place, monkeypatch):
    draw_images(place / "mine" / "HR", 1)
    store = packed.pack("mine", ".", 4, "results/micro/data/mine/x4")
    assert len(store) == 3
    assert of(look())["remarks"] == ["data: other images"]
    monkeypatch.setattr(identity, "code_fingerprint", lambda *_: "other")
    assert of(look())["remarks"] == ["data: other images; code"]


def test_data_that_is_gone(place):
    shutil.rmtree("results/micro/data")
    found = of(look())
    assert found["state"] == "done"
    assert "not known" in found["remarks"][0]
    assert of(look(training=CONTENT["training"] | {"ema": 0.9}))["state"] == "stale"
    assert not Path("results/micro/data").exists()


def test_a_state_of_another_run(place):
    unfinish()
    found = of(look(training=CONTENT["training"] | {"ema": 0.9}))
    assert (found["state"], found["iteration"], found["seconds"]) == ("stale", 0, 4.0)
    assert "state at iteration 4 belongs to another" in found["remarks"][0]


@pytest.mark.parametrize("had", [None, 3, [], {}, {"network": None, "scale": "x"}, {"training": 1}])
def test_a_strange_record_is_stale_and_no_error(place, had):
    record = json.loads((RUN / "run.json").read_text())
    write_json(RUN / "run.json", record | {"specification": had, "key": 5, "sessions": 7, "patches": [], "collapse": 1})
    found = of(look())
    assert found["state"] == "stale"
    assert found["remarks"][0].startswith("specification: ")


def test_differences_are_named():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ["a.c 2, now 3"]
    assert differences({"a": 1}, {"b": 1}) == ["b nothing, now 1", "a 1, now nothing"]
    assert differences({"a": [1]}, {"a": [1.0]}) == []
    assert differences(None, 1) == ["all nothing, now 1"]


# --- interrupted, failed ---


def test_interrupted(place):
    unfinish(4)
    found = of(look())
    assert (found["state"], found["iteration"], found["seconds"]) == ("interrupted", 4, 4.0)
    # The last session made 2 iterations in 1 s.
    assert (found["remaining_seconds"], found["remaining_from"]) == (1.0, "own rate")


def test_a_damaged_state_is_passed_over_and_left_alone(place):
    folder = unfinish(4)
    damaged = folder._file(5)
    damaged.write_bytes(newest_state().read_bytes()[:-10])
    folder._file(6).write_bytes(hashlib.sha256(b"junk").digest() + b"junk")
    before = snapshot(place)
    found = of(look())
    assert (found["state"], found["iteration"]) == ("interrupted", 4)
    assert any("iteration-000000005.state is damaged" in remark for remark in found["remarks"])
    assert snapshot(place) == before


def test_a_real_interruption(place):
    shutil.rmtree(RUN)
    assert main([*TRAIN, "--time-limit", "0"]) == 75
    found = of(look())
    assert (found["state"], found["iteration"]) == ("interrupted", 1)


def test_failed_says_why(place, capsys):
    shutil.rmtree(RUN)
    shutil.rmtree("mine")
    shutil.rmtree("results/micro/data")
    assert main(TRAIN) == 2
    told = capsys.readouterr().err.strip().removeprefix("safmn train: ")
    found = of(look())
    assert (found["state"], found["remarks"][0]) == ("failed", told)


def test_a_failure_before_the_newest_state_is_history(place):
    unfinish(4)
    (RUN / "failure.txt").write_text("the disk was full\n")
    assert (of(look())["state"], of(look())["iteration"]) == ("failed", 4)
    os.utime(RUN / "failure.txt", (1, 1))
    assert of(look())["state"] == "interrupted"


def test_what_cannot_be_read_does_not_stop_the_others(place):
    (RUN / "run.json").write_text("{")
    (RUN / "failure.txt").write_bytes(b"\xff\xfe broken")
    found = look()
    assert of(found)["state"] == "failed"
    assert any("run.json is damaged" in remark for remark in of(found)["remarks"])
    assert of(found, "safmn")["state"] == "not started"


# --- running ---

HOLD = """
import sys
from pathlib import Path
from safmn.training.state import StateFolder
folder = StateFolder(Path(sys.argv[1]), "key")
folder.acquire()
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holding(place):
    """A process that holds the run's lock, as a training does."""
    unfinish(4)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(RUN / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_running_until_it_is_killed(holding):
    found = of(look())
    assert (found["state"], found["iteration"]) == ("running", 4)
    assert f"process {holding.pid} on {socket.gethostname()}" in found["remarks"]
    assert (found["seconds"], found["remaining_seconds"]) == (4.0, 1.0)
    holding.kill()
    holding.wait()
    assert of(look())["state"] == "interrupted"


def test_looking_turns_no_run_away_that_starts_at_that_moment(place):
    unfinish(4)
    before = snapshot(place)
    lock = locks.acquire(RUN / "state" / "lock", 0)
    threading.Timer(0.2, lock.release).start()  # much longer than `safmn status` holds it
    StateFolder(RUN / "state", "key").acquire()
    assert snapshot(place).keys() == before.keys()


def test_looking_at_what_somebody_else_owns(holding, monkeypatch):
    """In a folder that may only be read, a lock cannot be taken, but seen."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(locks, "FileLock", refuse)
    assert of(look())["state"] == "running"
    holding.kill()
    holding.wait()
    assert of(look())["state"] == "interrupted"


def test_running_on_another_machine(place):
    """Whose lock this machine may not see: the files of its run are fresh."""
    unfinish(4)
    owner = RUN / "state" / "owner"
    owner.write_text("41 on node-7.cluster\n")
    found = of(look())
    assert found["state"] == "running"
    assert re.search(r"process 41 on node-7\.cluster, last sign \d+ s ago", found["remarks"][0])
    (RUN / "failure.txt").write_text("the disk was full\n")  # it has ended
    assert of(look())["state"] == "failed"
    (RUN / "failure.txt").unlink()
    for file in (RUN / "state").iterdir():
        os.utime(file, (time.time() - 3600,) * 2)
    assert of(look())["state"] == "interrupted"
    # On this machine it is a process that died, however fresh its files are.
    owner.write_text(f"41 on {socket.gethostname()}\n")
    assert of(look())["state"] == "interrupted"


# --- what is expected ---


def plan(rate, **training):
    runs = [{"folder": f"{name}/x4_seed0", "seconds_per_iteration": rate} for name in ("safmn", "ccm_none")]
    asked = Study.from_content(CONTENT, "micro.yaml").content["training"] | training
    write_json("results/micro/plan.json", {"runs": runs, "training": asked, "provenance": {"gpu": "A Big One"}})


def test_expected_by_the_plan(place):
    plan(2.5)
    record = look()
    assert (of(record, "safmn")["remaining_seconds"], of(record, "safmn")["remaining_from"]) == (15.0, "plan")
    assert record["plan"]["device"] == "A Big One"
    unfinish(4)
    assert of(look())["remaining_from"] == "own rate"  # it knows its device best


def test_a_plan_for_another_training_is_not_used(place):
    plan(2.5, batch=64)
    record = look()
    assert record["plan"] is None
    assert "training.batch 64, now 1" in record["remarks"][0]
    assert of(record, "safmn")["remaining_from"] == "other runs"


@pytest.mark.parametrize("content", ["", "[]", '{"runs": 1}', '{"runs": [{"folder": "a"}]}', "[" * 100_000])
def test_a_broken_plan_is_a_remark(place, content):
    Path("results/micro/plan.json").write_text(content)
    record = look()
    assert "not a readable plan" in record["remarks"][0]
    assert of(record)["state"] == "done"


def test_a_real_plan_is_understood(place, monkeypatch, capsys):
    from safmn.planning import calibration

    monkeypatch.setitem(calibration.PICTURE, "cpu", (48, 48))
    monkeypatch.setattr(calibration, "starting", lambda device: 1.0)
    assert main(["plan", "micro.yaml", "--device", "cpu", "--seconds-per-variant", "0.01", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["runs"][0]
    found = of(look(), planned["variant"])
    assert found["remaining_from"] == "plan"
    assert found["remaining_seconds"] == pytest.approx(planned["training_seconds"] + planned["validation_seconds"])


# --- the command ---


def test_the_command_prints_a_table(place, capsys):
    before = snapshot(place)
    assert main(["status", "--study", "micro.yaml"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"ccm_none/x4_seed0 +done +6 of 6", out)
    assert re.search(r"safmn/x4_seed0 +not started +0 of 6", out)
    assert "2 runs: 1 done, 1 not started; 6 of 12 iterations" in out
    assert "data 1 of 1" in out
    assert snapshot(place) == before


def test_results_are_looked_for_beside_the_study(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["status", str(place / "micro.yaml")]) == 0
    told = capsys.readouterr()
    assert "nothing was run here yet, or --results DIR names where" in told.err
    assert told.out == f"micro: none of its 2 runs was started in {tmp_path}\n"
    write_json(place / "results/micro/study.json", Study.from_content(CONTENT, "").content)
    assert main(["status", str(place / "micro.yaml")]) == 0
    told = capsys.readouterr()
    assert f"results/micro is not here: looking at {place / 'results/micro'}" in told.err
    assert "6 of 12 iterations" in told.out


def test_the_command_as_json(place, capsys):
    assert main(["status", "--study", "micro.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == look()
    assert main(["status", "--study", "micro.yaml", "--results", "elsewhere", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["states"] == {"not started": 2}


def test_settings_that_snakemake_was_given(place):
    write_json("results/micro/study.json", Study.from_content(CONTENT | {"seeds": [0, 1]}, "").content)
    assert "seeds [0, 1], now [0]" in look()["remarks"][0]
    write_json("results/micro/study.json", Study.from_content(CONTENT, "").content)
    assert look()["remarks"] == []


def test_a_study_that_trains_nothing(place, capsys):
    content = {key: value for key, value in CONTENT.items() if key != "run"} | {"training": None}
    Path("none.yaml").write_text(yaml.safe_dump(content))
    assert main(["status", "--study", "none.yaml"]) == 0
    assert "trains nothing" in capsys.readouterr().out


def test_mistakes_are_one_line(place, capsys):
    for arguments in (["--study", "nowhere.yaml"], ["--study", "micro.yaml", "--results", "micro.yaml"]):
        assert main(["status", *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith("safmn status: ")
        assert told.count("\n") == 1
