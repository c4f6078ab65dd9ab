"""Everything that a training run needs, as small as it can be: variants, images, packs, a study, and ways to run it."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from safmn.configuration import as_plain, check
from safmn.data import images
from safmn.data.packed import PackedPairs, open_selection
from safmn.schema import StudyFile
from safmn.training import loop

from . import faults

ROOT = Path(__file__).parents[2]
FILES = ("best.safetensors", "last.safetensors", "last_raw.safetensors", "history.csv")

SMALL = {"dim": 8, "n_blocks": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "tiny": SMALL,
    "batch_normed": SMALL | {"norm": "batch_norm"},
    "drawing": SMALL | {"mixer": "workshop_layers:Drawing"},
    "explosive": SMALL | {"mixer": "workshop_layers:Explosive"},
    "overflowing": SMALL | {"mixer": "workshop_layers:Overflowing"},
    "pausing": SMALL | {"mixer": "workshop_layers:Pausing"},
    "lazy": SMALL | {"mixer": "workshop_layers:Lazy"},
    "complex": SMALL | {"mixer": "workshop_layers:Complex"},
}
LAYERS = '''
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn


class Drawing(nn.Module):
    """Noise from every generator that a user's layer may draw from."""

    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.randn(dim, 1, 1))

    def forward(self, x):
        if not self.training:
            return x * self.gain
        return x * self.gain + 0.01 * torch.randn_like(x) * random.gauss(1, 1) * float(np.random.randn())


class Explosive(nn.Module):
    """Sound for sixty iterations, then not a number."""

    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim, 1, 1))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.calls += 1
        return x * self.gain * (torch.nan if self.training and self.calls > 60 else 1.0)


class Overflowing(nn.Module):
    """Loss and gradients stay finite, the weight does not: it is left out of the forward pass of iteration 40."""

    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim, 1, 1))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.calls += 1
            if self.calls == 40:
                with torch.no_grad():
                    self.gain.fill_(torch.inf)
                return x
        return x * self.gain


class Lazy(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.mix = nn.LazyConv2d(dim, 1)

    def forward(self, x):
        return self.mix(x)


class Complex(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim, 1, 1, dtype=torch.complex64))

    def forward(self, x):
        return (x * self.gain).real


class Pausing(nn.Module):
    """In training pass PAUSE_AT of this process, makes a file in PAUSE_IN and waits for another one."""

    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim, 1, 1))
        self.calls = 0

    def forward(self, x):
        if self.training:
            self.calls += 1
            if self.calls == int(os.environ.get("PAUSE_AT", 0)):
                folder = Path(os.environ["PAUSE_IN"])
                (folder / "paused").touch()
                while not (folder / "go").exists():
                    time.sleep(0.01)
        return x * self.gain
'''
PATIENCE = 3600  # seconds; no machine is that slow


class Workshop:
    """A folder with variants, images and packs; `train` works in this process, `child` and `command` in others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variants = folder / "variants"
        self.variants.mkdir(parents=True)
        for name, switches in VARIANTS.items():
            content = {"title": name, "description": "for a test", "network": switches}
            (self.variants / f"{name}.yaml").write_text(yaml.safe_dump(content))
        (self.variants / "workshop_layers.py").write_text(LAYERS)
        shutil.copy(Path(__file__).with_name("own_training.py"), self.variants)
        self.root, self.packs = folder / "images", folder / "packs"
        generator = np.random.default_rng(0)
        for dataset, count in (("own", 3), ("held_out", 2)):
            for index in range(count):
                noise = generator.integers(0, 256, (12, 14, 3), dtype=np.uint8)
                images.write(self.root / dataset / f"{index}.png", noise.repeat(4, 0).repeat(4, 1))

    def content(self, **changes: Any) -> dict[str, Any]:
        """A study; `changes` go to its training section, those to `run` under that name."""
        run_settings = changes.pop("run", {})
        training = {"iterations": 40, "batch": 2, "patch": 8, "validate_every": 10, "ema": 0.9} | changes
        return {
            "name": "workshop",
            "description": "for a test",
            "scales": [4],
            "seeds": [0],
            "networks": [],
            "data": {"train": ["own"], "validation": ["held_out"], "test": []},
            "training": training,
            "run": {"save_every": 1000, "log_every": 7, "cuda_graph": False} | run_settings,
        }

    def study(self, file: Path | None = None, **changes: Any) -> Path:
        """Writes a study."""
        file = file or self.folder / "study.yaml"
        file.write_text(json.dumps(self.content(**changes), ensure_ascii=False), encoding="utf-8")
        return file

    def stores(self, packs: Path | None = None) -> tuple[list[PackedPairs], list[PackedPairs]]:
        """Training and validation pairs."""
        own, held_out = ([open_selection(name, 4, packs or self.packs, self.root)] for name in ("own", "held_out"))
        return own, held_out

    def training(self, out: Path, network: str = "tiny", seed: int = 0, **changes: Any) -> loop.Training:
        """A run that has not begun."""
        return loop.Training(*self._arguments(out, network, seed, changes), torch.device("cpu"))

    def train(self, out: Path, network: str = "tiny", seed: int = 0, **changes: Any) -> dict[str, Any]:
        """Trains in this process; returns run.json."""
        options = {key: changes.pop(key) for key in ("restart", "time_limit") if key in changes}
        device = torch.device(changes.pop("device", "cpu"))
        return loop.train(*self._arguments(out, network, seed, changes), device=device, **options)

    def _arguments(self, out: Path, network: str, seed: int, changes: dict[str, Any]) -> tuple[Any, ...]:
        study = check(StudyFile, self.content(**changes), "workshop")
        specification = {
            "network": network,
            "switches": VARIANTS.get(network, {}),
            "scale": 4,
            "seed": seed,
            "train": ["own"],
            "validation": ["held_out"],
            "training": as_plain(study.training),
        }
        return specification, *self.stores(), out, study.run

    def arguments(self, out: Path, network: str = "tiny", study: Path | None = None, **options: Any) -> list[str]:
        """The command line of a run; options as `time_limit=3`, or `restart=True`."""
        words = ["train", network, "--study", str(study or self.folder / "study.yaml"), "--scale", "4"]
        words += ["--out", str(out), "--packs", str(self.packs), "--data-root", str(self.root)]
        words += ["--device", "cpu", "--no-check"]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        return words

    def command(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """`python -m safmn`, as a user starts it."""
        return subprocess.Popen(
            [sys.executable, "-m", "safmn", *arguments],
            env=os.environ | {"SAFMN_ABLATIONS": str(self.variants), "PYTHONPATH": str(ROOT)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def child(self, arguments: list[str], fault: tuple[str, int] | None = None) -> multiprocessing.Process:
        """The same command in a process that need not import torch first, with a fault planted in it."""
        process = _context().Process(target=faults.main, args=(arguments, str(self.variants), fault), daemon=True)
        process.start()
        return process


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([faults.__name__])
    return context


def until(there: Callable[[], Any], running: Callable[[], bool] = lambda: True) -> None:
    """Waits for something to be there, on however slow a machine; fails where nobody is left to bring it."""
    end = time.monotonic() + PATIENCE
    while not there():
        assert running() or there(), "it ended before"
        assert time.monotonic() < end
        time.sleep(0.01)


def contents(out: Path) -> dict[str, bytes]:
    """The files whose bytes a resumed run must share with a straight one."""
    return {name: (out / name).read_bytes() for name in FILES}


def strays(folder: Path) -> list[str]:
    """Files under temporary names."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*") if path.is_file())
