"""`safmn train` as a whole: how it stops, what changes its result and what does not, what it says if it cannot."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch

from safmn import cli
from safmn.data import images
from safmn.data.packed import open_selection
from safmn.errors import UserError
from safmn.networks import load_weights
from safmn.networks.acceleration import FastSAFM
from safmn.training import validation
from safmn.training.step import TrainStep

from .workshop import FILES, ROOT, contents, strays, until

WEIGHTS = FILES[:3]


def safmn(capsys, *arguments) -> tuple[int, str]:
    """The command in this process: its status and what it says on stderr."""
    capsys.readouterr()
    status = cli.main([str(word) for word in arguments])
    return status, capsys.readouterr().err


# --- stopping ---


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 75)],
    ids=["TERM", "INT", "USR1"],
)
def test_told_to_stop(workshop, tmp_path, straight, number, status):
    """Saves, says so with its status, and the same command resumes there."""
    out = tmp_path / "run"
    arguments = workshop.arguments(out, study=workshop.study(tmp_path / "study.yaml"))
    process = workshop.child(arguments, ("pause before step", 15))
    until((tmp_path / "run.pause").exists, process.is_alive)
    os.kill(process.pid, number)
    (tmp_path / "run.pause" / "go").touch()
    process.join()
    assert process.exitcode == status
    assert [file.name for file in (out / "state").glob("iteration-*.state")] == ["iteration-000000015.state"]
    assert "stopped at iteration" in (tmp_path / "run.log").read_text()
    assert not (out / "failure.txt").exists()
    assert not (out / "best.safetensors").exists()
    record = workshop.train(out)
    assert [(entry["from"], entry["to"]) for entry in record["sessions"]] == [(0, 15), (15, 40)]
    assert contents(out) == contents(straight)


def test_time_limit(workshop, tmp_path, capsys):
    """Slices of nothing: each does one iteration, saves and asks to be run again."""
    workshop.train(tmp_path / "straight", iterations=12)
    study = workshop.study(tmp_path / "study.yaml", iterations=12)
    arguments = workshop.arguments(tmp_path / "run", study=study, time_limit=0)
    statuses = [safmn(capsys, *arguments)[0] for _ in range(12)]
    assert statuses == [75] * 11 + [0]
    assert contents(tmp_path / "run") == contents(tmp_path / "straight")


def test_the_real_command(workshop, tmp_path):
    """`python -m safmn train` terminated, killed and run to its end; other hash seed, threads and cores each time."""
    workshop.train(tmp_path / "straight", "pausing")
    study = workshop.study(tmp_path / "study.yaml", run={"save_every": 0})
    out = tmp_path / "run"
    arguments = workshop.arguments(out, "pausing", study=study)
    environment = {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}
    for number, status in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        place = tmp_path / str(status)
        place.mkdir()
        with workshop.command(*arguments, PAUSE_AT="12", PAUSE_IN=str(place), **environment) as process:
            until((place / "paused").exists, lambda: process.poll() is None)
            process.send_signal(number)
            (place / "go").touch()
            process.communicate()
            assert process.returncode == status
    one_core = f"import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); os.execv({sys.executable!r}, "
    one_core += f"{[sys.executable, '-m', 'safmn', *arguments]!r})"
    environment = os.environ | {"PYTHONHASHSEED": "2", "SAFMN_ABLATIONS": str(workshop.variants)}
    subprocess.run([sys.executable, "-c", one_core], env=environment, cwd=ROOT, check=True, capture_output=True)
    assert contents(out)["best.safetensors"] == contents(tmp_path / "straight")["best.safetensors"]
    assert contents(out) == contents(tmp_path / "straight")


def test_two_at_once(workshop, tmp_path, straight, capsys):
    """The second is told who is there; the first does not notice."""
    out = tmp_path / "run"
    arguments = workshop.arguments(out, study=workshop.study(tmp_path / "study.yaml"))
    process = workshop.child(arguments, ("pause before step", 15))
    until((tmp_path / "run.pause").exists, process.is_alive)
    status, said = safmn(capsys, *arguments)
    assert status == 2
    assert f"in use by process {process.pid}" in said
    (tmp_path / "run.pause" / "go").touch()
    process.join()
    assert process.exitcode == 0
    assert contents(out) == contents(straight)
    assert not (out / "failure.txt").exists()


# --- what changes nothing ---


def test_run_settings_change_no_weights(workshop, tmp_path):
    usual = workshop.train(tmp_path / "usual", iterations=120, validate_every=40)
    for number, run in enumerate(({"log_every": 1}, {"log_every": 13}, {"log_every": 10000}, {"save_every": 0})):
        record = workshop.train(tmp_path / str(number), iterations=120, validate_every=40, run=run)
        for name in WEIGHTS:
            assert (tmp_path / str(number) / name).read_bytes() == (tmp_path / "usual" / name).read_bytes(), (run, name)
        assert record["best"] == usual["best"]


@pytest.mark.parametrize("network", ["tiny", "drawing"])
def test_generators_used_before_change_nothing(workshop, tmp_path, network):
    for number in (1, 2):
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(number)
        workshop.train(tmp_path / str(number), network)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_another_seed_changes_weights_and_patches(workshop, tmp_path):
    runs = [workshop.training(tmp_path / str(seed), seed=seed) for seed in (0, 0, 1)]
    starts = [run.kept.step.network.state_dict()["to_feat.weight"] for run in runs]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    batches = [run.sampler.batch(3)[0] for run in runs]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_leaping_clocks(workshop, tmp_path, straight):
    """The wall clock jumps by years between any two readings."""
    study = workshop.study(tmp_path / "study.yaml", run={"save_every": 0.01})
    process = workshop.child(workshop.arguments(tmp_path / "run", study=study), ("jumping clock", 10**8))
    process.join()
    assert process.exitcode == 0
    assert contents(tmp_path / "run") == contents(straight)
    assert 0 < json.loads((tmp_path / "run" / "run.json").read_text())["seconds"] < 10**7


# --- what is written ---


def test_the_files_tell_one_story(workshop, tmp_path):
    """History, record and weights against each other and against what they stand for."""
    out = tmp_path / "run"
    record = workshop.train(out, run={"log_every": 7})
    with open(out / "history.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["iteration"]) for row in rows] == [7, 10, 14, 20, 21, 28, 30, 35, 40]
    psnr = {int(row["iteration"]): row["validation_psnr_rgb"] for row in rows}
    validated = {iteration: float(value) for iteration, value in psnr.items() if value}
    assert list(validated) == [10, 20, 30, 40]
    assert record["best"]["validation_psnr_rgb"] == max(validated.values())
    assert validated[record["best"]["iteration"]] == max(validated.values())
    _, (held_out,) = workshop.stores()
    pairs = [(held_out.lr(i), held_out.hr(i)) for i in range(len(held_out))]
    for which, iteration in (("best", record["best"]["iteration"]), ("last", 40)):
        network = load_weights(out / f"{which}.safetensors", "tiny", 4)
        assert validation.rgb_psnr(network, pairs, 4) == pytest.approx(validated[iteration], abs=1e-4)
    assert (out / "last.safetensors").read_bytes() != (out / "last_raw.safetensors").read_bytes()


def test_of_equal_validations_the_later_one_is_best(workshop, tmp_path, monkeypatch):
    """As the authors' trainer keeps it; also where equal ones come before and after a better and a worse one."""
    for values, best in (([5, 5, 5, 5], 40), ([5, 7, 7, 6], 30), ([7, 5, 7, 5], 30), ([7, 6, 5, 4], 10)):
        told = iter(values)
        monkeypatch.setattr(validation, "rgb_psnr", lambda *_, told=told: float(next(told)))
        record = workshop.train(tmp_path / str(values))
        assert record["best"] == {"iteration": best, "validation_psnr_rgb": float(max(values))}
        same = (tmp_path / str(values) / "best.safetensors").read_bytes()
        last = safetensors.torch.load_file(tmp_path / str(values) / "last.safetensors")
        found = safetensors.torch.load(same)
        assert all(torch.equal(found[name], last[name]) for name in last) == (best == 40)


def test_rows_of_the_history_are_means(workshop, tmp_path):
    for every in (1, 10):
        workshop.train(tmp_path / str(every), run={"log_every": every})
    fine, coarse = (
        np.genfromtxt(tmp_path / str(every) / "history.csv", delimiter=",", names=True) for every in (1, 10)
    )
    for name in ("l1_loss", "fft_loss", "gradient_norm"):
        np.testing.assert_allclose(coarse[name], fine[name].reshape(4, 10).mean(1), rtol=1e-12)


def test_first_loss_is_that_of_the_first_batch(workshop, tmp_path):
    """Recomputed by hand from the initial weights and the first draw."""
    workshop.train(tmp_path / "run", iterations=10, run={"log_every": 1})
    run = workshop.training(tmp_path / "other")
    lr, hr = (pixels.float() / 255 for pixels in run.sampler.batch(0))
    sr = run.kept.step.network(lr)
    spectra = [torch.view_as_real(torch.fft.rfft2(image)) for image in (sr, hr)]
    row = np.genfromtxt(tmp_path / "run" / "history.csv", delimiter=",", names=True)[0]
    assert row["learning_rate"] == 1e-3
    assert row["l1_loss"] == pytest.approx((sr - hr).abs().mean().item(), rel=1e-5)
    assert row["fft_loss"] == pytest.approx(0.05 * (spectra[0] - spectra[1]).abs().mean().item(), rel=1e-5)


def test_the_network_and_its_average_are_trained_in_their_fast_forms(workshop, tmp_path):
    step = workshop.training(tmp_path / "run").kept.step
    assert {type(each.feats[0].safm) for each in (step.network, step.average.network)} == {FastSAFM}


def test_one_entry_a_process(workshop, tmp_path):
    """However often it saves: a run of days would fill run.json with thousands otherwise."""
    record = workshop.train(tmp_path / "run", run={"save_every": 0})
    assert [(entry["from"], entry["to"]) for entry in record["sessions"]] == [(0, 40)]
    for field in ("device", "torch", "python", "cpu", "threads"):
        assert record["sessions"][0][field]


def test_scalars_are_for_looking_at(workshop, tmp_path, straight, caplog):
    """A run does not end because TensorBoard's files cannot be written."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "tensorboard").write_text("in the way")
    workshop.train(out)
    assert "no more scalars" in caplog.text
    assert contents(out) == contents(straight)


def test_scalars_of_a_run_before_are_hidden(workshop, tmp_path):
    """TensorBoard shows each step once, as the last run made it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for seed in (0, 1):
        workshop.train(tmp_path / "run", seed=seed)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("l1_loss")]
    rows = np.genfromtxt(tmp_path / "run" / "history.csv", delimiter=",", names=True)
    assert [step for step, _ in shown] == rows["iteration"].tolist()
    assert [value for _, value in shown] == pytest.approx(rows["l1_loss"].tolist())


def test_temporary_files_of_earlier_kills_go(workshop, tmp_path, straight):
    out = shutil.copytree(straight, tmp_path / "run")
    for name in (".best.abcd1234.safetensors", ".last.abcd_234.safetensors", ".run.abcd1234.json"):
        (out / name).write_bytes(b"half")
    (out / ".mine").write_text("kept")
    workshop.train(out)
    assert strays(out) == [".mine"]


# --- data, specification and folder that do not fit ---


def other_pack(workshop, packs):
    """The packs again, one image changed in one pixel."""
    shutil.copytree(workshop.root, packs / "images")
    image = images.read(packs / "images" / "own" / "0.png").copy()
    image[0, 0, 0] ^= 1
    images.write(packs / "images" / "own" / "0.png", image)
    open_selection("own", 4, packs, packs / "images")
    open_selection("held_out", 4, packs, packs / "images")
    return packs


def test_data_changed_under_a_finished_run(workshop, tmp_path, straight, caplog, monkeypatch):
    out = shutil.copytree(straight, tmp_path / "run")
    before = contents(out)
    saved = {path.name: path.read_bytes() for path in (out / "state").glob("iteration-*")}
    monkeypatch.setattr(workshop, "packs", other_pack(workshop, tmp_path))
    second = workshop.train(out)
    assert "belongs to another specification, code or data; set aside in state-set-aside-1" in caplog.text
    assert {path.name: path.read_bytes() for path in (out / "state-set-aside-1").iterdir()} == saved
    assert json.loads((straight / "run.json").read_text())["key"] != second["key"]
    workshop.train(tmp_path / "anew")
    assert contents(out) == contents(tmp_path / "anew") != before


@pytest.mark.parametrize(
    "changes", [{"iterations": 50}, {"learning_rate": 2e-3}, {"ema": 0.8}, {"batch": 3}, {"seed": 1}]
)
def test_another_specification_starts_anew(workshop, tmp_path, straight, caplog, changes):
    shutil.copytree(straight, tmp_path / "run")
    workshop.train(tmp_path / "run", **changes)
    assert "set aside" in caplog.text
    workshop.train(tmp_path / "anew", **changes)
    assert contents(tmp_path / "run") == contents(tmp_path / "anew")


def test_restart(workshop, tmp_path, straight, caplog):
    caplog.set_level("INFO", "safmn")
    shutil.copytree(straight, tmp_path / "run")
    workshop.train(tmp_path / "run", restart=True)
    assert (tmp_path / "run" / "state-set-aside-1").is_dir()
    assert "resuming" not in caplog.text
    assert contents(tmp_path / "run") == contents(straight)


def test_a_state_with_another_content(workshop, tmp_path, monkeypatch):
    """Right key, wrong inside: said, and left as it is."""
    run = workshop.training(tmp_path / "run")
    content = run.kept.state() | {"step": {"network": {}}}
    monkeypatch.setattr(type(run.kept), "state", lambda self: content)
    workshop.train(tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setenv("SAFMN_ABLATIONS", str(workshop.variants))
    with pytest.raises(UserError, match="--restart") as caught:
        workshop.train(tmp_path / "run")
    assert "\n" not in str(caught.value)
    workshop.train(tmp_path / "run", restart=True)


@pytest.mark.parametrize("damage", ["gone", "cut", "no index"])
def test_vanished_data(workshop, tmp_path, capsys, damage):
    """What was finished stays; the message names the file."""
    packs = tmp_path / "packs"
    shutil.copytree(workshop.packs, packs)
    arguments = workshop.arguments(tmp_path / "run", study=workshop.study(tmp_path / "study.yaml"))
    arguments[arguments.index("--packs") + 1] = str(packs)
    arguments[arguments.index("--data-root") + 1] = str(tmp_path / "no such folder")
    assert safmn(capsys, *arguments)[0] == 0
    before = contents(tmp_path / "run")
    pixels = packs / "own" / "x4" / "pixels.u8"
    if damage == "cut":
        os.truncate(pixels, 100)
    else:
        pixels.unlink()
    if damage == "no index":
        (pixels.parent / "index.json").unlink()
    status, said = safmn(capsys, *arguments)
    assert status == 2
    assert ("no such folder" if damage == "no index" else str(pixels)) in said
    assert said.count("\n") == 1
    assert contents(tmp_path / "run") == before
    assert (tmp_path / "run" / "failure.txt").read_text() == said.removeprefix("safmn train: ")


def test_validation_on_training_images_is_refused(workshop, tmp_path):
    """By content: a copy under another name is found, too."""
    root = tmp_path / "images"
    shutil.copytree(workshop.root, root)
    shutil.copy(root / "own" / "1.png", root / "held_out" / "other name.png")
    stores = [open_selection(name, 4, tmp_path / "packs", root) for name in ("own", "held_out")]
    run = workshop.training(tmp_path / "run")
    from safmn.training import loop

    with pytest.raises(UserError, match="other name is in the training data too"):
        loop.train(run.identity.specification, [stores[0]], [stores[1]], tmp_path / "run", run.run_settings)


# --- the disk ---


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 500 KB, and a function that mounts it with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    if not mount("size=500k"):
        pytest.skip("a tmpfs cannot be mounted here (it takes root): the full and the read-only disk are not tried")
    yield place, lambda *options: mount("remount", *options)
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disk(workshop, tmp_path, straight, capsys, small_disk):
    """Two states fit, a third does not while the first two are there. Given room, the run resumes and loses nothing."""
    place, remount = small_disk
    study = workshop.study(tmp_path / "study.yaml", run={"save_every": 0})
    arguments = workshop.arguments(place / "run", study=study)
    status, said = safmn(capsys, *arguments)
    assert status == 2
    assert re.search(r"cannot write .*\.state: No space left on device; free", said)
    assert strays(place) == []
    assert not (place / "run" / "run.json").exists()
    assert len(list((place / "run" / "state").glob("iteration-*.state"))) == 2
    assert remount("size=10m")
    status, said = safmn(capsys, *arguments)
    assert status == 0
    assert "resuming from iteration 2 of 40" in said
    assert contents(place / "run") == contents(straight)
    assert not (place / "run" / "failure.txt").exists()


@pytest.mark.parametrize("room", [0, 8, 32, 64, 128])
def test_hardly_any_room(workshop, tmp_path, capsys, small_disk, room):
    """Full from the start, or just after: always the one line, nothing half-written."""
    place, _ = small_disk
    (place / "filler").write_bytes(bytes(500 * 1024 - room * 1024))
    study = workshop.study(tmp_path / "study.yaml", run={"save_every": 0})
    status, said = safmn(capsys, *workshop.arguments(place / "run", study=study))
    assert status == 2
    assert "No space left on device" in said
    assert strays(place) == []
    assert list(place.rglob("*.safetensors")) == []


def test_read_only_disk(workshop, tmp_path, capsys, small_disk):
    place, remount = small_disk
    assert remount("size=10m")
    study = workshop.study(tmp_path / "study.yaml")
    assert safmn(capsys, *workshop.arguments(place / "done", study=study))[0] == 0
    before = contents(place / "done")
    assert remount("ro")
    for name in ("done", "new"):
        status, said = safmn(capsys, *workshop.arguments(place / name, study=study))
        assert status == 2
        assert re.fullmatch(r"safmn train: cannot write .*/state(/lock)?: Read-only file system; .*\n", said)
    assert contents(place / "done") == before


def test_full_disk_injected(workshop, tmp_path, straight):
    """The same by refusing the write, where nothing can be mounted: the fifth save fails."""
    study = workshop.study(tmp_path / "study.yaml", run={"save_every": 0})
    arguments = workshop.arguments(tmp_path / "run", study=study)
    process = workshop.child(arguments, ("full disk", 5))
    process.join()
    assert process.exitcode == 2
    assert "No space left on device" in (tmp_path / "run" / "failure.txt").read_text()
    assert strays(tmp_path) == []
    workshop.train(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(straight)


def test_a_file_in_the_way(workshop, tmp_path, capsys):
    (tmp_path / "run").write_text("mine")
    status, said = safmn(capsys, *workshop.arguments(tmp_path / "run", study=workshop.study(tmp_path / "study.yaml")))
    assert status == 2
    assert "cannot write" in said
    assert (tmp_path / "run").read_text() == "mine"


# --- mistakes ---


@pytest.mark.parametrize(
    ("network", "options", "says"),
    [
        ("tiny", {"seed": -1}, "--seed -1: give 0 to 4294967295"),
        ("tiny", {"seed": 2**32}, "--seed"),
        ("tiny", {"iterations": 0}, "--iterations 0: give at least 1"),
        ("tiny", {"scale": 5}, "no x5"),
        ("tinny", {}, "did you mean tiny"),
        ("bicubic", {}, "bicubic has no parameters to train"),
        ("tiny", {"study": "no such file.yaml"}, "there is no study no such file.yaml: give its file"),
        ("tiny", {"batch": 10**13}, "do not fit the memory: lower training.batch"),
        ("tiny", {"patch": 4096}, "smaller than an HR patch"),
    ],
)
def test_mistakes_are_told_in_one_line(workshop, tmp_path, capsys, network, options, says):
    changes = {key: value for key, value in options.items() if key in ("batch", "patch")}
    options = {key: value for key, value in options.items() if key not in changes}
    study = options.pop("study", None) or workshop.study(tmp_path / "study.yaml", **changes)
    status, said = safmn(capsys, *workshop.arguments(tmp_path / "run", network, study, **options))
    assert status == 2
    assert says in said
    assert said.count("\n") == 1


def test_no_cuda(workshop, tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    arguments = workshop.arguments(tmp_path / "run", study=workshop.study(tmp_path / "study.yaml"))
    arguments[arguments.index("cpu")] = "cuda"
    status, said = safmn(capsys, *arguments)
    assert status == 2
    assert "no CUDA device" in said


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
    ],
    ids=str,
)
def test_running_out_of_memory_is_told_and_other_errors_are_not_taken_for_it(
    workshop, tmp_path, monkeypatch, error, told
):
    """The words of other libraries are in tests/device/test_memory.py."""

    def fail(*_):
        raise error

    monkeypatch.setattr(TrainStep, "__call__", fail)
    with pytest.raises(UserError if told else RuntimeError) as caught:
        workshop.train(tmp_path / "run")
    if told:
        assert "2 patches of 8x8 do not fit the memory: lower training.batch" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert str(error) in str(caught.value)


@pytest.mark.parametrize(("name", "says"), [("lazy", "is a lazy module"), ("complex", "is complex, which cannot")])
def test_layers_that_cannot_be_trained_are_named(workshop, tmp_path, name, says):
    """Sizes that are known at the first image only; complex weights, of which the optimiser wants none."""
    with pytest.raises(UserError, match=says) as caught:
        workshop.train(tmp_path / "run", name)
    assert "feats.0.safm" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_weights_say_what_they_are(straight):
    for name in WEIGHTS:
        with safetensors.torch.safe_open(straight / name, "pt") as file:
            assert file.metadata() == {"network": "tiny", "scale": "4", "which": name.split(".")[0]}
