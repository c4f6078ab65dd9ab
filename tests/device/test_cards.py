"""Which names are devices on a machine with cards or without, and what is said where torch cannot use them."""

import contextlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from safmn import cli
from safmn.data import images
from safmn.device import lease
from safmn.errors import UserError
from safmn.training import randomness
from tests import small_study

MINI = Path(__file__).parents[2] / "config" / "mini.yaml"


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lease.FOLDER, str(tmp_path / "locks"))
    monkeypatch.delenv(lease.VISIBLE, raising=False)
    monkeypatch.delenv(lease.LEASED, raising=False)


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts an `nvidia-smi` on the PATH that knows so many cards, or fails with what it says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(count: int, fails: str = "") -> None:
        lines = "\n".join(f"echo '{index}, GPU-{index}abc0000-1111'" for index in range(count))
        script = "#!/bin/sh\n" + (f'echo "{fails}"; exit 18\n' if fails else "")
        script += f'case "$*" in *driver_version*) echo 470.256.02; exit;; esac\n{lines}\n'
        (folder / "nvidia-smi").write_text(script)
        (folder / "nvidia-smi").chmod(0o755)

    return put


# --- Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["NoDevFiles", "void", "none", "all", "0", "0,1", "GPU-aa", "MIG-x", "7", "no device", "-1", ""]
)
def test_without_a_driver_no_word_is_a_device(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no nvidia-smi
    monkeypatch.setattr(lease, "DRIVERS", ("/there/is/no/such/driver",))
    monkeypatch.setenv(lease.VISIBLE, word)
    with lease.hold(timeout=0) as one:
        monkeypatch.delenv(lease.LEASED, raising=False)  # as in another job
        with lease.hold(timeout=0) as other:
            assert (one, other) == (None, None)
    assert os.environ[lease.VISIBLE] == word


def test_where_there_is_no_driver_nobody_asks_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(lease, "DRIVERS", ("/there/is/no/such/driver",))
    monkeypatch.setattr(lease.sys, "executable", "/there/is/no/python")
    assert lease.visible_devices() == {}


A, B = "GPU-0abc0000-1111", "GPU-1abc0000-1111"
PART = "MIG-GPU-0abc0000-1111/7/0"


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (None, {A: A, B: B}),
        ("1", {"1": B}),
        ("GPU-1abc,0", {"GPU-1abc": B, "0": A}),
        (B, {B: B}),
        ("GPU-", {}),  # the beginning of both
        ("GPU-9", {}),
        (PART, {PART: PART}),
        *((word, {}) for word in ("", "-1", "NoDevFiles", "void", "all")),
        *((f"0,{word},1", {"0": A}) for word in ("none", "-1", "7")),
    ],
)
def test_names_are_read_as_the_driver_reads_them(
    preset: str | None, expected: dict[str, str], cards: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name -> card: an index, a UUID and the beginning of a UUID may be the same one."""
    cards(2)
    if preset is not None:
        monkeypatch.setenv(lease.VISIBLE, preset)
    assert lease.visible_devices() == expected


def test_a_driver_of_two_versions_is_a_device_that_cannot_be_used(cards: Callable[..., None]) -> None:
    cards(1, fails="Failed to initialize NVML: Driver/library version mismatch")
    assert len(lease.visible_devices()) == 1


def test_a_tool_without_cards_is_a_machine_without_them(
    cards: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DRIVERS", ("/there/is/no/such/driver",))
    cards(1, fails="NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
    with lease.alone() as device:
        assert device is None


# --- Cards that torch cannot use --------------------------------------------------------------------------------------


@pytest.fixture
def no_cuda() -> None:
    if torch.cuda.is_available():
        pytest.skip("torch can use CUDA here")


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("take", [lease.share, lease.alone])
def test_a_device_that_torch_cannot_use_is_an_error(take: Callable, cards: Callable[..., None]) -> None:
    cards(1)
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "a build for CPUs only"
    with pytest.raises(UserError) as error, take(None):
        pass
    said = str(error.value)
    assert f"device GPU-0abc0000-1111 is there, but torch {torch.__version__} ({build}) cannot use it" in said
    assert "driver 470.256.02" in said
    assert "--device cpu" in said
    assert lease.VISIBLE not in os.environ
    with take("cpu") as device:
        assert device is None


def test_torchs_own_reason_is_passed_on(cards: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old (11040).", stacklevel=1)
        return False

    cards(1)
    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    with pytest.raises(UserError, match=r"\(CUDA 12.6\) .* driver 470.256.02 \(CUDA initialization: .* too old"):
        lease.require_usable("0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    lease.require_usable("0")


COMMANDS = {
    "runtime": ["runtime", "espcn"],
    "operations": ["operations"],
    "memory": ["memory", "espcn", "--measure"],
    "memory if there is one": ["memory", "espcn", "--measure-if-cuda"],
    "evaluate": ["evaluate", "--network", "bicubic", "--scale", "4", "--data", "nowhere"],
    "inspect": ["inspect", "--network", "bicubic", "--scale", "4", "--scene", "nowhere"],
    "explain": ["explain", "--network", "bicubic", "--scale", "4", "--data", "nowhere", "--published", "28.42"],
    "plan": ["plan", str(MINI)],
    "train": ["train", "ccm_none", "--study", "small.yaml", "--scale", "4", "--out", "run"],
}


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_that_leases_takes_the_cpu_in_silence(
    name: str, cards: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    study(tmp_path)
    cards(1)
    with contextlib.chdir(tmp_path):
        assert cli.main(COMMANDS[name]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    command = COMMANDS[name][0]
    assert said.startswith(f"safmn {command}: device GPU-0abc0000-1111 is there, but torch {torch.__version__}")
    assert "--device cpu" in said
    assert not (tmp_path / "run" / "run.json").exists()


def study(folder: Path) -> None:
    """Three images of noise, and a study of them."""
    draw = np.random.default_rng(0)
    for name in "abc":
        file = folder / "home" / "somebody" / "mine" / "HR" / f"{name}.png"
        images.write(file, draw.integers(0, 256, (48, 48, 3), np.uint8))
    (folder / "small.yaml").write_text(yaml.safe_dump(small_study.content(folder)))


# --- `--device cpu` ---------------------------------------------------------------------------------------------------

SMALL = ["--crop", "24", "--window", "8", "--patch", "8", "--steps", "1"]
ON_CPU = {
    "runtime": ["runtime", "espcn", "--images", "1", "--processes", "1", "--height", "8", "--width", "8"],
    "operations": ["operations", "--images", "1", "--height", "8", "--width", "8"],
    "memory": ["memory", "espcn", "--measure-if-cuda"],
    "evaluate": ["evaluate", "--network", "bicubic", "--scale", "4", "--data", "home/somebody/mine"],
    "explain": [*COMMANDS["explain"][:6], "home/somebody/mine", "--published", "28.42"],
    "inspect": ["inspect", "--network", "bicubic", "--scale", "4", "--scene", "home/somebody/mine", *SMALL],
    "plan": ["plan", "small.yaml", "--seconds-per-variant", "0.1"],
    "train": [
        "train",
        "ccm_none",
        "--study",
        "small.yaml",
        "--scale",
        "4",
        "--seed",
        "3",
        "--out",
        "run",
        "--no-check",
    ],
}


def opened(*_: object) -> None:
    raise AssertionError("a CUDA context was opened")


def watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch says that there is a card, as long as `CUDA_VISIBLE_DEVICES` shows one; whatever touches it fails."""
    seen = lambda: os.environ.get(lease.VISIBLE) != ""  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_available", seen)
    for module in (torch.cuda, torch.cuda.random):
        monkeypatch.setattr(module, "device_count", lambda: int(seen()))
        monkeypatch.setattr(module, "_lazy_init", opened)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda: opened() if seen() else None)


@pytest.mark.parametrize("name", ON_CPU)
def test_a_command_on_the_cpu_leaves_the_gpu_alone(
    name: str, cards: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(tmp_path)
    cards(1)
    watch(monkeypatch)
    with contextlib.chdir(tmp_path):
        assert cli.main([*ON_CPU[name], "--device", "cpu"]) == 0
    assert not (tmp_path / "locks").exists()  # nothing was leased
    assert lease.VISIBLE not in os.environ  # as before


def test_the_generators_of_a_card_that_was_not_used_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch)
    assert randomness.state()["cuda"] == []
