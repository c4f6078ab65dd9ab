"""`safmn plan`: sizes against real files, disk against a real run, arithmetic against its definition."""

import itertools
import json
import statistics

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from safmn import layout, paths
from safmn.cli import main
from safmn.data import packed, sources
from safmn.device.description import Cpu, Cuda
from safmn.planning import calibration, disk, plan, sizes
from safmn.planning.wallclock import makespan, spoken, with_days
from safmn.schema import RunSettings
from safmn.study import Run, Study
from safmn.training import capture

MICRO = {
    "name": "micro",
    "description": "A few iterations",
    "scales": [4],
    "seeds": [0, 1],
    "variants": ["safmn", "ccm_none", "ln_none", "ln_none_low_lr"],
    "networks": ["bicubic"],
    "data": {"train": ["photographs[4:]"], "validation": ["photographs[:1]"], "test": ["photographs[1:3]"]},
    "training": {"iterations": 6, "batch": 2, "patch": 16, "validate_every": 4, "ema": 0.5},
    "run": {"log_every": 2, "save_every": 0},
}

RUN = RunSettings()


def study(**changes):
    return Study.from_content(MICRO | changes, "micro.yaml")


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Small pictures, no process started, results in a folder of the test's own."""
    monkeypatch.setitem(calibration.PICTURE, "cpu", (48, 96))
    monkeypatch.setattr(calibration, "starting", lambda device: 2.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- arithmetic ---


@given(st.lists(st.integers(0, 1000), max_size=12), st.integers(1, 15))
def test_jobs_on_several_devices(jobs, devices):
    found = makespan(jobs, devices)
    longest, even = max(jobs, default=0), sum(jobs) / devices
    assert max(longest, even) <= found <= even + longest  # what any list schedule keeps (Graham 1966)
    assert makespan(jobs, 1) == sum(jobs)
    assert makespan(jobs, len(jobs) + 1) == longest


def test_longest_jobs_go_first():
    assert makespan([1, 1, 1, 1, 4], 2) == 4


def test_durations_are_spoken():
    said = {0.0123: "12.3 ms", 5: "5.0 s", 90: "90 s", 600: "10.0 min", 75_300: "20.9 h", 4e6: "1,111.1 h"}
    assert {value: spoken(value) for value in said} == said
    assert with_days(4e6) == "1,111.1 h (46.3 days)"
    assert with_days(75_300) == "20.9 h"


@settings(max_examples=200)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_rows_of_a_history(iterations, log_every, validate_every):
    due = {i for i in range(1, iterations + 1) if i % log_every == 0 or i % validate_every == 0} | {iterations}
    training = {"iterations": iterations, "validate_every": validate_every}
    assert disk.logged(training, RunSettings(log_every=log_every)) == sorted(due)


# --- sizes ---


def test_size_of_a_dataset_before_and_after_it_is_packed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    this = study()
    before = sizes.Sizes(this).dataset("photographs", 3)
    store = packed.pack("photographs", None, 3, this.results / layout.packed("photographs", 3))
    after = sizes.Sizes(this).dataset("photographs", 3)
    assert (before.origin, after.origin) == ("headers", "packed")
    assert before.shapes == after.shapes
    assert before.bytes == (store.path / layout.PIXELS).stat().st_size
    part = sizes.Sizes(this).selection("photographs[1:3]", 3)
    assert part.hr_pixels == sum(store.hr(i).shape[0] * store.hr(i).shape[1] for i in (1, 2))


def test_known_facts_stand_in_for_absent_images():
    known = sizes.Sizes(Study.load(paths.ROOT / "config" / "paper.yaml"))
    found = [known.dataset(name, 4) for name in ("DIV2K", "Flickr2K")]
    assert {each.origin for each in found} == {"facts"}
    assert sum(len(each.shapes) for each in found) == 3450
    assert 3 * sum(each.hr_pixels for each in found) == pytest.approx(31e9, rel=0.02)
    assert sum(each.bytes for each in found) == pytest.approx(33e9, rel=0.02)
    mine = sizes.Sizes(study(data=MICRO["data"] | {"train": ["my_own"]})).dataset("my_own", 4)
    assert (mine.origin, mine.bytes) == ("unknown", 0)


@pytest.mark.parametrize("name", ["Set5", "Set14", "B100", "T91", "BSDS200"])
def test_facts_agree_with_the_images(datasets, name):
    if not (datasets / name).is_dir():
        pytest.skip(f"{name} is not in SAFMN_DATASETS")
    here = study(data=MICRO["data"] | {"root": str(datasets)})
    found = sizes.Sizes(here).dataset(name, 1)
    assert found.origin == "headers"
    assert len(found.shapes) == sources.DATASETS[name].images
    assert found.hr_pixels / len(found.shapes) == pytest.approx(sizes.TYPICAL[name], rel=0.005)


def test_disk_of_a_run_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = MICRO["training"] | {"iterations": 90, "batch": 1, "patch": 8, "validate_every": 30}
    content = MICRO | {"training": training, "run": {"log_every": 1, "save_every": 0}}
    (tmp_path / "micro.yaml").write_text(yaml.safe_dump(content))
    command = ["train", "ccm_none", "--study", "micro.yaml", "--scale", "4", "--out", "run", "--no-check"]
    assert main(command) == 0
    this = Study.load("micro.yaml")
    expected = disk.of_run(this.specification(Run("ccm_none", 4, 0)), this.run)
    run = tmp_path / "run"
    taken = {
        "states": sum(file.stat().st_size for file in (run / "state").glob("*.state")),
        "weights": sum(file.stat().st_size for file in run.glob("*.safetensors")),
        "history": (run / "history.csv").stat().st_size,
        "scalars": sum(file.stat().st_size for file in (run / "tensorboard").iterdir()),
    }
    for part, size in taken.items():
        assert size == pytest.approx(expected[part], rel=0.25), part


def test_datasets_and_downloads_of_the_paper():
    this = Study.load(paths.ROOT / "config" / "paper.yaml")
    datasets = {(each["dataset"], each["scale"]) for each in disk.packed(this, sizes.Sizes(this))}
    names = ("DIV2K", "Flickr2K", "DIV2K_val", "Set5", "Set14", "B100", "Urban100", "Manga109")
    assert datasets == {(name, scale) for name in names for scale in (2, 3, 4)}
    fetched = disk.downloads(["DIV2K", "Set5", "B100", "Manga109"])
    assert list(fetched) == ["DIV2K_train_HR.zip", "benchmark.tar"]
    assert fetched["DIV2K_train_HR.zip"] == 3530603713
    fetched = disk.downloads(list(names), this.scales)
    assert len(fetched) == 8 + 2  # DIV2K's parts, Flickr2K and the benchmarks
    assert sum(fetched.values()) == pytest.approx(26e9, rel=0.01)


# --- calibration ---


class Scripted:
    """A device whose marks are a script of milliseconds, and which records what is asked of it."""

    kind = "cpu"
    torch_device = torch.device("cpu")

    def __init__(self, milliseconds):
        self.script, self.marks, self.calls = milliseconds, 0, []

    def synchronise(self):
        self.calls.append("synchronise")

    def mark(self):
        self.calls.append("mark")
        self.marks += 1
        return self.marks - 1

    def elapsed(self, start, stop):
        assert self.calls[-1] == "synchronise"
        return self.script[start]


def test_timing_is_the_median_after_a_warm_up():
    device = Scripted([5.0, 900.0, 6.0])
    timing = calibration.timed(lambda: device.calls.append("work"), device, 0.0)
    first = device.calls.index("mark")
    assert device.calls[:first].count("work") == calibration.WARM_UP + 1
    assert device.calls[first - 1] == "synchronise"
    assert device.calls[first:] == ["mark", *["work", "mark"] * 3, "synchronise"]
    assert (timing.seconds, timing.repetitions) == (0.006, 3)
    low, _, high = statistics.quantiles([5.0, 900.0, 6.0], n=4, method="inclusive")
    assert timing.spread == pytest.approx((high - low) / 6.0)


def test_a_step_is_the_real_one_and_is_scaled_only_if_need_be(monkeypatch):
    specification = study().specification(Run("ccm_none", 4, 0))
    seen = []
    original = calibration.forms.TrainStep.__call__

    def watched(self, iteration, lr, hr):
        seen.append((tuple(lr.shape), tuple(hr.shape), lr.dtype, iteration))
        return original(self, iteration, lr, hr)

    monkeypatch.setattr(calibration.forms.TrainStep, "__call__", watched)
    whole = calibration.step(specification, RUN, Cpu(), 60.0 / calibration.MAX_REPETITIONS, 1)
    assert (whole.measured_batch, whole.reason) == (2, "")
    assert whole.seconds == whole.timing.seconds
    assert seen[-1][:3] == ((2, 3, 16, 16), (2, 3, 64, 64), torch.uint8)
    assert max(iteration for *_, iteration in seen) < 6  # the learning rate has no meaning beyond the last
    monkeypatch.setattr(calibration, "free_memory", lambda device: 1000.0)
    part = calibration.step(specification, RUN, Cpu(), 0.5, 1200)
    assert (part.measured_batch, part.batch) == (1, 2)
    assert part.seconds == 2 * part.timing.seconds
    assert "GiB" in part.reason
    specification["training"]["batch"] = 24
    slow = calibration.step(specification, RUN, Cpu(), 1e-6, 1)
    assert slow.measured_batch == calibration.MIN_PATCHES
    assert slow.seconds == 24 / calibration.MIN_PATCHES * slow.timing.seconds


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), MemoryError()],
    ids=str,
)
def test_a_batch_that_does_not_fit_is_halved(monkeypatch, error):
    original = calibration.forms.TrainStep.__call__

    def full(self, iteration, lr, hr):
        if len(lr) > 1:
            raise error
        return original(self, iteration, lr, hr)

    monkeypatch.setattr(calibration.forms.TrainStep, "__call__", full)
    specification = study().specification(Run("ccm_none", 4, 0))
    found = calibration.step(specification, RUN, Cpu(), 0.1, 1)
    assert (found.measured_batch, found.reason) == (1, "2 patches do not fit into this device's memory")


def test_a_recorded_step_is_what_is_timed(monkeypatch):
    """Where a study records its steps: they are recorded before the first one that is timed."""
    done = []

    def recorded(step, run_settings, channels):
        if not run_settings.cuda_graph:
            return step
        kinds = itertools.chain(["aside"] * capture.WARM_UP, ["record"], itertools.repeat("replay"))
        return lambda *batch: done.append(next(kinds)) or step(*batch)

    monkeypatch.setattr(capture, "as_asked", recorded)
    specification = study().specification(Run("ccm_none", 4, 0))
    warm_up = calibration.once_warm
    monkeypatch.setattr(calibration, "once_warm", lambda work, device: done.append("warm-up") or warm_up(work, device))
    timing = calibration.step(specification, RunSettings(cuda_graph=True), Cpu(), 0.0, 1).timing
    assert done[: capture.WARM_UP + 2] == ["aside"] * capture.WARM_UP + ["record", "warm-up"]
    assert done[capture.WARM_UP + 2 :] == ["replay"] * (calibration.WARM_UP + 1 + timing.repetitions)
    done.clear()
    calibration.step(specification, RUN, Cpu(), 0.0, 1)
    assert done == ["warm-up"]


def test_training_flags_are_put_back():
    cudnn, before = torch.backends.cudnn, torch.get_num_threads()
    flags = cudnn.deterministic, cudnn.allow_tf32
    with calibration.as_in_training(torch.device("cpu"), {"threads": 10**3, "precision": "float32"}):
        assert cudnn.deterministic
        assert not cudnn.allow_tf32
        assert torch.get_num_threads() <= calibration.describe("cpu")["cores"]
    assert torch.get_num_threads() == before
    assert (cudnn.deterministic, cudnn.allow_tf32) == flags


def test_a_process_really_starts():
    assert calibration.starting(Cpu()) > 0


# --- the plan ---


def test_runs_of_the_same_network_share_a_measurement():
    this = Study.load(paths.ROOT / "config" / "paper.yaml")
    groups = plan.alike(this)
    assert sorted(run.folder for group in groups for run in group) == sorted(run.folder for run in this.runs())
    together = [sorted({run.variant for run in group}) for group in groups if len(group) > 1]
    assert together == [["ln_none", "ln_none_low_lr"]]
    assert [run.scale for group in groups for run in group if run.variant == "safmn"] == [2, 3, 4]
    # Max pooling, average pooling: the same counts, not the same time.
    alone = [{run.variant for run in group} for group in groups]
    assert {"avg_pool"} in alone


def test_a_plan_adds_up(quick, capsys):
    (quick / "micro.yaml").write_text(yaml.safe_dump(MICRO))
    command = ["plan", "micro.yaml", "--device", "cpu", "--seconds-per-variant", "0.05", "--parallel", "2", "--json"]
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((quick / "results/micro/plan.json").read_text())
    assert [each["variants"] for each in record["networks"]] == [["safmn"], ["ccm_none"], ["ln_none", "ln_none_low_lr"]]
    assert [each["runs"] for each in record["networks"]] == [2, 2, 4]
    assert [each["folder"] for each in record["runs"]] == [run.folder for run in study().runs()]
    shapes = sizes.Sizes(study())
    used = {use: study().selections(use) for use in ("validation", "test")}
    pixels = {use: sum(each.hr_pixels for each in shapes.selections(texts, 4)) for use, texts in used.items()}
    assert pixels["validation"] == 512 * 512  # the astronaut
    network, run = record["networks"][0], record["runs"][0]
    assert run["training_seconds"] == pytest.approx(6 * network["step"]["seconds"])
    validated = 2 * pixels["validation"] * network["validation_seconds_per_pixel"]  # at iterations 4 and 6
    assert run["validation_seconds"] == pytest.approx(validated)
    assert run["evaluation_seconds"] == pytest.approx(2 * pixels["test"] * network["evaluation_seconds_per_pixel"])
    assert run["start_seconds"] == 4.0
    parts = ("training", "validation", "evaluation", "start")
    assert run["seconds"] == pytest.approx(sum(run[f"{part}_seconds"] for part in parts))
    totals = record["totals"]
    assert (totals["runs"], totals["iterations"]) == (8, 48)
    assert totals["seconds"] == pytest.approx(sum(each["seconds"] for each in record["runs"]))
    rounding = 1e-9 * totals["seconds"]  # the two add up in another order
    assert totals["seconds"] / 2 - rounding <= totals["wall_clock_seconds"] < totals["seconds"]
    assert record["disk"]["total"] == sum(record["disk"][key] for key in ("packed", *run["bytes"]))
    assert record["disk"]["packed"] == shapes.dataset("photographs", 4).bytes
    assert record["disk"]["present"] == 0
    assert record["provenance"]["device"] == "cpu"
    assert network["memory"]["peak"] > network["memory"]["weights"]


def test_a_plan_is_printed_with_units_and_what_is_assumed(quick, capsys):
    data = MICRO["data"] | {"test": ["Manga109"]}
    changed = MICRO | {"variants": ["ccm_none"], "seeds": [0], "data": data}
    (quick / "micro.yaml").write_text(yaml.safe_dump(changed))
    assert main(["plan", "micro.yaml", "--device", "cpu", "--seconds-per-variant", "0.01", "--out", "my.json"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for expected in ("ccm_none", "memory MiB", "device-hours", "Wall-clock on 1 such device", "Disk:", " GB"):
        assert expected in out
    assert "Assumed: sizes of Manga109 are known facts" in out
    assert "Measured: the training step of 1 networks" in out
    assert (quick / "my.json").is_file()
    assert not (quick / "results").exists()


def test_a_study_that_trains_nothing(quick, capsys):
    content = {key: value for key, value in MICRO.items() if key != "run"} | {"training": None}
    (quick / "none.yaml").write_text(yaml.safe_dump(content))
    assert main(["plan", "none.yaml", "--device", "cpu"]) == 0
    assert "trains nothing" in capsys.readouterr().out
    assert json.loads((quick / "results/micro/plan.json").read_text())["totals"]["seconds"] == 0


@pytest.mark.parametrize(
    "arguments",
    [["--seconds-per-variant", "0"], ["--seconds-per-variant", "nan"], ["--parallel", "0"], ["--out", "no/where/x"]],
)
def test_mistakes_are_one_line(quick, capsys, arguments):
    (quick / "micro.yaml").write_text(yaml.safe_dump(MICRO | {"variants": ["ccm_none"], "seeds": [0]}))
    (quick / "no").write_text("a file, not a folder")
    assert main(["plan", "micro.yaml", "--device", "cpu", "--seconds-per-variant", "0.01", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("safmn plan: ")
    assert told.count("\n") == 1


def test_an_absent_gpu_is_told(quick, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    (quick / "micro.yaml").write_text(yaml.safe_dump(MICRO))
    assert main(["plan", "micro.yaml", "--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.gpu
def test_a_plan_on_a_gpu(quick, capsys):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is usable here")
    record = plan.make(study(variants=["ccm_none"]), Cuda(), 0.5, 1)
    network = record["networks"][0]
    assert network["fits_memory"] is True
    assert network["images_on_device"] is True
    assert network["step"]["measured_batch"] == 2
    assert record["provenance"]["device"] == "cuda"
