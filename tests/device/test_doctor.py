"""`safmn doctor` on made-up machines: `nvidia-smi` is a script, and what torch can do is told instead of tried."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from safmn import cli
from safmn.device import doctor, lease, probe

A, B = "GPU-0abc0000-1111", "GPU-1abc0000-1111"
WORKS = {"torch": "2.11.0", "built": "13.0", "kind": "cuda", "notes": [], "convolution": "", "graph": ""}
WORKS |= {"free": 2**36, "total": 2**36}
Machine = Callable[..., None]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lease.FOLDER, str(tmp_path / "locks"))
    for name in (lease.VISIBLE, lease.LEASED, "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Puts an `nvidia-smi` on the PATH, and what torch can do into `probe.ask`."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def make(*cards: str, fails: str = "", parts: str = "", driver: str = "580.95.05", use: dict | None = None) -> None:
        """Cards as "NAME, total, used, mode, MIG"; parts as `nvidia-smi -L` lists them below a card."""
        lines = [f"echo '{i}, GPU-{i}abc0000-1111, {card}, {driver}'" for i, card in enumerate(cards)]
        names = [f"echo '{i}, GPU-{i}abc0000-1111'" for i in range(len(cards))]
        listed = [f"echo 'GPU {i}: X (UUID: GPU-{i}abc0000-1111)'\necho '{parts}'" for i in range(len(cards))]
        script = ["#!/bin/sh", f"echo '{fails}'; exit 9"] if fails else ["#!/bin/sh", 'case "$*" in']
        if not fails:
            asked = {"-L": listed, "*compute_mode*": lines, "*index,uuid*": names}
            script += [f"{pattern})\n" + "\n".join(answer) + "\n;;" for pattern, answer in asked.items()]
            script.append("esac")
        file = tmp_path / "bin" / "nvidia-smi"
        file.write_text("\n".join(script) + "\n")
        file.chmod(0o755)
        monkeypatch.setattr(probe, "ask", lambda device: use or WORKS)

    return make


H100 = "NVIDIA H100, 81559, 4, Default, Disabled"


def findings(part: str, results: Path = Path("results")) -> list[doctor.Finding]:
    return [each for each in doctor.machine(results) if each.part == part]


def one(part: str) -> doctor.Finding:
    (finding,) = findings(part)
    return finding


def test_a_machine_without_a_driver_computes_on_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(lease, "DRIVERS", ("/there/is/no/such/driver",))
    monkeypatch.setattr(probe, "ask", lambda device: {"torch": "2.13.0", "built": "", "kind": "cpu", "convolution": ""})
    assert one("driver").says == "none: this machine computes on its CPU"
    assert (one("torch").level, one("compute").says) == ("ok", "the CPU: convolution ok")
    assert {each.level for each in doctor.machine(Path("results"))} <= {"ok", "warning"}


def test_a_gpu_that_works(machine: Machine) -> None:
    machine(H100, H100)
    assert one("driver").says == "580.95.05, 2 GPUs"
    assert one("GPU 1").says == "NVIDIA H100, 81,559 MiB, 4 MiB in use"
    assert [each.level for each in findings("compute")] == ["ok", "ok"]
    assert one("torch").level == "ok"


@pytest.mark.parametrize(
    ("built", "driver", "use", "level"),
    [
        ("13.0", "575.57.08", {"kind": "cpu"}, "error"),
        ("13.0", "575.57.08", {"convolution": "no kernel image"}, "error"),
        ("13.0", "575.57.08", {"error": "it ended with signal 11"}, "error"),
        ("13.0", "575.57.08", {}, "warning"),  # the package cuda-compat serves
        ("13.0", "580.65.06", {}, "ok"),
        ("12.6", "470.256.02", {"kind": "cpu"}, "error"),
        ("12.6", "535.1", {}, "ok"),
    ],
)
def test_a_driver_is_compared_with_what_torch_was_built_for(
    built: str, driver: str, use: dict, level: str, machine: Machine
) -> None:
    works = {key: value for key, value in WORKS.items() if "error" not in use or key in ("torch", "built")}
    machine(H100, driver=driver, use=works | {"built": built} | use)
    finding = one("torch")
    assert finding.level == level
    if level != "ok":
        assert f"which driver {driver} is too old for" in finding.says
        assert "update the driver to" in finding.todo
    assert ("forward compatibility" in finding.says) == (level == "warning")


def test_a_build_for_cpus_beside_a_gpu(machine: Machine) -> None:
    machine(H100, use=WORKS | {"torch": "2.13.0+cpu", "built": "", "kind": "cpu", "notes": ["no NVIDIA driver"]})
    assert one("torch").todo.startswith("install a CUDA build of torch")
    assert "torch 2.13.0+cpu cannot use it (no NVIDIA driver)" in one("compute").says


@pytest.mark.parametrize(
    ("said", "level", "part"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", "error", "different versions"),
        ("NVIDIA-SMI has failed because it could not communicate with the driver.", "warning", "does not answer"),
    ],
)
def test_a_driver_that_does_not_answer(
    said: str, level: str, part: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DRIVERS", (__file__,))
    machine(fails=said)
    assert one("driver").level == level
    assert part in one("driver").says


PART = "  MIG 1g.10gb     Device  0: (UUID: MIG-7a1c-22)"


@pytest.mark.parametrize(
    ("card", "parts", "level", "words"),
    [
        ("A100, 40960, 4, Default, Enabled", PART, "warning", ["into 1 part", "CUDA_VISIBLE_DEVICES=MIG-7a1c-22;"]),
        ("A100, 40960, 4, Default, Enabled", "", "error", ["no part to compute on"]),
        ("A100, 40960, 4, Exclusive_Process, Disabled", "", "warning", ["one program at a time", "jobs_per_device"]),
        ("A100, 40960, 4, Prohibited, Disabled", "", "error", ["no program may compute"]),
        ("A100, 40960, 39000, Default, Disabled", "", "warning", ["39,000 MiB of them in use", "choose another GPU"]),
        ("Orin, [N/A], [N/A], [N/A], [N/A]", "", "ok", ["Orin"]),
    ],
)
def test_cards_that_need_care(card: str, parts: str, level: str, words: list[str], machine: Machine) -> None:
    machine(card, parts=parts)
    finding = one("GPU 0")
    assert finding.level == level
    assert all(word in f"{finding.says}; {finding.todo};" for word in words)


@pytest.mark.parametrize(
    ("preset", "level", "words"),
    [
        (A, "ok", "1 GPU"),
        ("0,GPU-1abc", "ok", "2 GPUs"),
        ("", "ok", "hidden"),
        ("1,GPU-77", "warning", "'GPU-77' is no GPU here, so only 1 of 2 count"),
        ("first", "warning", "'first' is no GPU here, so jobs run on the CPU"),
    ],
)
def test_what_cuda_visible_devices_leaves(
    preset: str, level: str, words: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(H100, H100)
    monkeypatch.setenv(lease.VISIBLE, preset)
    finding = one(lease.VISIBLE)
    assert (finding.level, words in finding.says) == (level, True)


def test_who_holds_a_gpu(machine: Machine) -> None:
    machine(H100, H100)
    assert [each.says.partition(" (")[0] for each in findings("leases")] == [f"{A}: free", f"{B}: free"]
    me = f"by process {os.getpid()}, "
    with lease.hold(timeout=0), unleased():
        assert findings("leases")[0].says.startswith(f"{A}: alone {me}")
        assert "free" in findings("leases")[1].says
    with lease.hold(False, 2, [B], timeout=0), unleased():
        assert findings("leases")[1].says.startswith(f"{B}: shared {me}")


@contextlib.contextmanager
def unleased():
    """As in another process, which has no lease."""
    kept = {name: os.environ.pop(name) for name in (lease.VISIBLE, lease.LEASED, lease.ORDER)}
    yield
    os.environ |= kept


@pytest.mark.parametrize(
    ("result", "level", "says"),
    [
        ({"error": "no answer in 180 s"}, "error", "no answer in 180 s"),
        ({"convolution": "OutOfMemoryError: CUDA out of memory", "graph": "not tried"}, "error", "out of memory"),
        (
            {"convolution": "AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"},
            "error",
            "busy",
        ),
        ({"graph": "RuntimeError: capture failed"}, "warning", "no CUDA graph (RuntimeError: capture failed)"),
        ({"notes": ["sm_121 is not compatible"]}, "warning", "sm_121 is not compatible"),
    ],
)
def test_what_torch_cannot_do_is_said(result: dict, level: str, says: str, machine: Machine) -> None:
    machine(H100, use=WORKS | result)
    finding = one("compute")
    assert (finding.level, says in finding.says, finding.todo != "") == (level, True, True)


def test_a_gpu_in_exclusive_mode_that_is_busy_asks_to_wait(machine: Machine) -> None:
    machine(H100, use=WORKS | {"convolution": "CUDA error: CUDA-capable device(s) is/are busy or unavailable"})
    assert one("compute").todo.startswith("wait for the program")


def test_a_gpu_that_a_job_has_alone_is_not_disturbed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(H100, H100)
    tried: list = []
    monkeypatch.setattr(probe, "ask", lambda device: tried.append(device) or WORKS)
    with lease.hold(timeout=0), unleased():  # A, alone
        said = [each.says for each in findings("compute")]
    assert tried == [B]
    assert said[1] == f"{A}: not tried, since a job has it alone and may be timing"
    with lease.hold(False, 2, [A], timeout=0), unleased():
        findings("compute")
    assert tried == [B, A, B]


def test_a_torch_that_cannot_be_imported_is_one_error(machine: Machine) -> None:
    machine(H100, use={"error": "its process ended with status 1: ModuleNotFoundError: No module named 'torch'"})
    assert one("torch").level == "error"
    assert findings("compute") == []


def test_packages_that_are_missing_or_too_old_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=2.0", "pyyaml>=99", "no-such-package>=1", "no-such-extra; extra == 'archive'", "x; extra == 'dev'"]
    monkeypatch.setattr(doctor, "_requirements", lambda: lines)
    error, warning = doctor.packages()
    assert error.says.startswith("pyyaml 6")
    assert error.says.endswith("is too old (>=99), no-such-package is missing")
    assert warning.says == "not there: no-such-extra"


def test_a_disk_with_little_room(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(H100)
    monkeypatch.setattr(doctor, "free_bytes", lambda folder: 10**9)
    assert (one("disk").level, one("disk").says) == ("warning", "1.0 GB free for results")


# --- The trial itself -------------------------------------------------------------------------------------------------


def test_the_cpu_convolves(monkeypatch: pytest.MonkeyPatch) -> None:
    found = probe.ask(None)
    assert (found["kind"], found["convolution"]) == ("cpu", "")


@pytest.mark.parametrize(
    ("script", "reason"),
    [("sleep 9", "no answer in 0.5 s"), ("echo broken >&2; exit 3", "its process ended with status 3: broken")],
)
def test_a_trial_that_hangs_or_crashes(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{'exec ' * script.startswith('sleep')}{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(probe.sys, "executable", str(python))
    assert probe.ask(None, patience=0.5) == {"error": reason}


# --- The command ------------------------------------------------------------------------------------------------------

STUDY = """
name: little
description: two images
scales: [4]
seeds: [0]
variants: [safmn]
networks: []
data: {root: DATA, train: ["photographs[1:]"], validation: ["photographs[:1]"], test: [Set5]}
training: {iterations: 2, batch: 1, patch: 8, validate_every: 1}
"""


def test_the_exit_status_and_json_tell_scripts(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    machine(H100, use=WORKS)
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("0 error")
    machine("A100, 40960, 4, Prohibited, Disabled", use=WORKS)
    assert cli.main(["doctor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["counts"]["error"] == 1
    assert {"part", "level", "says", "todo"} == set(told["findings"][0])


def test_a_study_is_compared_with_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(lease.VISIBLE, "")
    (tmp_path / "little.yaml").write_text(STUDY.replace("DATA", str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor", "--study", "little.yaml", "--device", "cpu", "--json"]) == 1
    said = {each["part"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert (said["test images"]["level"], "Set5" in said["test images"]["says"]) == ("error", True)
    assert said["train images"]["level"] == "ok"
    assert said["room"]["level"] == said["step memory"]["level"] == said["step time"]["level"] == "ok"
    assert "for 1 run (" in said["step time"]["says"]
