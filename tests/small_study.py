"""A study of one variant and six iterations, run command by command as the workflow runs it."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from safmn import provenance
from safmn.cli import main
from safmn.data import images
from safmn.files import write_json
from safmn.study import Study

RUN = "training/ccm_none/x4_seed3"


def content(folder: Path) -> dict[str, Any]:
    """The study; its data root names whoever runs it."""
    return {
        "name": "small",
        "description": "A few iterations",
        "scales": [4],
        "seeds": [3],
        "variants": ["ccm_none"],
        "networks": ["bicubic"],
        "data": {
            "root": str(folder / "home" / "somebody"),
            "train": ["mine[1:]"],
            "validation": ["mine[:1]"],
            "test": ["mine[:1]"],
        },
        "training": {"iterations": 6, "batch": 1, "patch": 8, "validate_every": 3, "ema": 0.5},
        "run": {"log_every": 2},
    }


def make(folder: Path) -> Path:
    """Writes images and study, trains, evaluates, counts, measures; returns `results/small`."""
    draw = np.random.default_rng(0)
    for name in "abc":
        images.write(
            folder / "home" / "somebody" / "mine" / "HR" / f"{name}.png", draw.integers(0, 256, (48, 48, 3), np.uint8)
        )
    (folder / "small.yaml").write_text(yaml.safe_dump(content(folder)))
    results = Path("results/small")
    with contextlib.chdir(folder):
        write_json(results / "study.json", Study.load("small.yaml").content)
        size = ("--height", "16", "--width", "16", "--images", "1")
        store = f"{results}/data/mine/x4[:1]"
        trained = results / RUN
        train = ("train", "ccm_none", "--study", f"{results}/study.json", "--scale", "4", "--seed", "3")
        safmn(*train, "--no-check", "--device", "cpu", "--out", trained)
        for which in ("best", "last"):
            out = results / "quality/ccm_none/x4" / f"seed3_{which}"
            weights = ("--network", "ccm_none", "--weights", trained / f"{which}.safetensors")
            files = ("--data", store, "--out", out / "mine.csv", "--record", out / "evaluation.json")
            safmn("evaluate", *weights, "--scale", "4", "--device", "cpu", *files)
        weights = ("--network", "ccm_none", "--weights", trained / "best.safetensors", "--device", "cpu")
        small = ("--crop", "24", "--window", "8", "--patch", "8", "--steps", "1")
        out = results / "inspection/ccm_none/x4/seed3_best.json"
        safmn("inspect", *weights, "--scale", "4", "--scene", store, *small, "--out", out)
        for name in ("ccm_none", "bicubic"):
            safmn("complexity", name, "--scale", "all", "--out", results / f"cost/complexity/{name}.json")
        safmn("memory", "safmn", "--height", "16", "--width", "16", "--out", results / "cost/memory.json")
        runtime = ("--rounds", "1", "--processes", "1", "--no-habit", "--out", results / "cost/runtime.json")
        safmn("runtime", "safmn", *size, *runtime)
        safmn("operations", *size, "--out", results / "cost/operations.json")
    return folder / results


def copy_code(origin: Path, folder: Path) -> Path:
    """A new folder with the code of a checkout or an archive."""
    folder.mkdir()
    for name in provenance.CODE:
        copy = shutil.copytree if (origin / name).is_dir() else shutil.copyfile
        copy(origin / name, folder / name)
    return folder


KEY_OF = """
import json, sys
from safmn.training.identity import key_of

record = json.load(open(sys.argv[1]))
specification, data = record["specification"], record["provenance"]["data"]
print(key_of(specification, [data[text] for text in (*specification["train"], *specification["validation"])]))
"""


def key_by(code: Path, record: Path) -> str:
    """The key that the code in a folder gives a run; that code is run, in a process of its own."""
    command = [sys.executable, "-c", KEY_OF, str(record.absolute())]
    environment = os.environ | {"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=code, env=environment)
    return told.stdout.strip()


def safmn(*words: str | Path) -> None:
    """One command, which must succeed."""
    assert main([str(word) for word in words]) == 0
