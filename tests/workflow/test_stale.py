"""What an edit makes out of date: exactly the jobs that depend on it, in a finished study.

Snakemake marks every job of the study as done (`--touch`) in a copy of the project; then something is edited in it, a
dry run tells what is to be done and why, and the edit is taken back.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.data.pictures import edsr_folder
from tests.forks import Forks
from tests.test_fingerprint import change
from tests.workflow.conftest import ROOT

STUDY = {
    "name": "stale",
    "description": "Nothing of it is computed",
    "scales": [4],
    "seeds": [0],
    "variants": ["safmn", "ccm_none"],
    "networks": ["bicubic", "imdn"],
    "data": {"root": "datasets", "train": ["trained"], "validation": ["validated"], "test": ["tested"]},
    "weights": {"root": "published"},
    "training": {"iterations": 4, "batch": 1, "patch": 8, "validate_every": 4},
}
RESULTS = Path("results/stale")


@dataclass
class Project:
    """A copy of the project with a study whose jobs all count as done."""

    folder: Path
    forks: Forks

    def snakemake(self, *arguments: str) -> str:
        """What Snakemake says."""
        words = ["snakemake", "--cores", "1", "--configfile", "study.yaml", *arguments]
        told = self.forks.run(words, self.folder)
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout + told.stderr

    def finish(self) -> None:
        """Makes every output, empty, and has Snakemake write down that its job was done as it is now."""
        (self.folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
        lines = self.snakemake("--summary").split("output_file", 1)[1].splitlines()[1:]
        for name in (line.split("\t")[0] for line in lines if line.startswith(str(RESULTS))):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).touch()
        self.snakemake("--touch", "--forceall")
        (self.folder / RESULTS / "finished").touch()  # that Snakemake was started took it away

    def stale(self) -> tuple[set[str], set[str]]:
        """What a dry run would do for reasons of its own, and what only since something before it is done again."""
        said = self.snakemake("--dry-run", "--quiet", "host")
        own, following = set(), set()
        for job, reason in re.findall(r"^Job \d+: (.*)\.\nReason: (.*)$", said, re.MULTILINE):
            other = re.sub(r"Input files updated by another job: [^;]*(; )?", "", reason).strip()
            if not job.startswith("All tables"):  # the target of the study, which makes nothing itself
                (own if other else following).add(short(job))
        assert own or following or "Nothing to be done" in said, said
        return own, following


def short(message: str) -> str:
    """A job's message in a few words."""
    words = {
        "Pack ": "pack {}",
        "Train ": "train {}",
        "Evaluate the best and the last weights of ": "evaluate {}",
        "Evaluate the published weights of ": "published {}",
        "Evaluate bicubic": "bicubic",
        "Count ": "complexity",
        "Peak memory": "memory",
        "Time the networks": "runtime",
        "Time the operations": "operations",
        "Inspect ": "inspect {}",
        "Render ": "tables",
    }
    for start, name in words.items():
        if message.startswith(start):
            return name.format(message.removeprefix(start).split()[0])
    raise AssertionError(f"a job that this test does not know: {message}")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("project")
    for name in ("safmn", "workflow", "ablations", "config", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "environment.yml"):
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("trained", "validated", "tested"):
        edsr_folder(folder / "datasets" / name, {"a": (48, 48), "b": (48, 64)}, scale=4)
    (folder / "published").mkdir()
    (folder / "published" / "IMDN_x4.pth").write_bytes(b"weights")
    forks = Forks(folder, tmp_path_factory.mktemp("forks"), "snakemake.cli", "numpy", "pydantic")  # `safmn` is edited
    made = Project(folder, forks)
    made.finish()
    assert made.stale() == (set(), set())
    yield made
    forks.close()


Edit = Callable[[Path], None]
TRAINED = {"safmn", "ccm_none"}
TRAIN, EVALUATE = {f"train {name}" for name in TRAINED}, {f"evaluate {name}" for name in TRAINED}
QUALITY = {*EVALUATE, "published imdn", "bicubic"}
INSPECT = {f"inspect {name}" for name in (*TRAINED, "imdn", "bicubic")}


def longer(name: str | Path) -> Edit:
    """Another content of a file."""

    def edit(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes() + b"\n")

    return edit


def study(**changes: object) -> Edit:
    """Other settings of the study."""

    def edit(folder: Path) -> None:
        (folder / "study.yaml").write_text(yaml.safe_dump(STUDY | changes))

    return edit


def variant(name: str, **changes: object) -> Edit:
    """Other keys of a variant's file; of `network` only those given."""

    def edit(folder: Path) -> None:
        file = folder / f"ablations/{name}.yaml"
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        network = content["network"] | changes.pop("network", {})
        file.write_text(json.dumps(content | changes | {"network": network}), encoding="utf-8")

    return edit


def training(name: str) -> Path:
    return RESULTS / f"training/safmn/x4_seed0/{name}.safetensors"


# What is edited -> the edit, the files that it changes, what it makes out of date, and what follows from that.
CASES: dict[str, tuple[Edit, str | Path, set[str], set[str]]] = {}


def case(name: str, edit: Edit, file: str | Path, own: set[str], following: set[str]) -> None:
    CASES[name] = (edit, file, own, following | {"tables"} - own if own else following)  # one reason is told of each


def code(name: str, file: str, what: str, own: set[str], following: set[str] = frozenset()) -> None:
    case(name, change(file, what), file, own, set(following))


LR = "datasets/{}/LR_bicubic/X4/ax4.png"
SELECTED = STUDY["data"] | {"test": ["tested[:1]"]}
PACK = {"pack trained", "pack validated", "pack tested"}

case("a comment", longer("safmn/data/pairs.py"), "safmn/data/pairs.py", set(), set())
code("the pixels", "safmn/data/pairs.py", "load", PACK, {*TRAIN, *QUALITY, *INSPECT})
case("LR to test on", longer(LR.format("tested")), LR.format("tested"), {"pack tested"}, {*QUALITY, *INSPECT})
case(
    "HR to test on",
    longer("datasets/tested/HR/a.png"),
    "datasets/tested/HR/a.png",
    {"pack tested"},
    {*QUALITY, *INSPECT},
)
FOLLOWING = {*TRAIN, *EVALUATE, "inspect safmn", "inspect ccm_none"}
case("LR to train on", longer(LR.format("trained")), LR.format("trained"), {"pack trained"}, FOLLOWING)
case("LR to validate on", longer(LR.format("validated")), LR.format("validated"), {"pack validated"}, FOLLOWING)
code("the loss", "safmn/training/loss.py", "terms", TRAIN, FOLLOWING - TRAIN)
code("finding variants", "safmn/networks/variants.py", "discover", set())
code("the evaluation", "safmn/quality/evaluation.py", "evaluate", {*QUALITY, *INSPECT})
code("reading of weights", "safmn/networks/checkpoints.py", "read", {*QUALITY, *INSPECT})
code("which weights are taken", "safmn/networks/mappings.py", "choose", {*QUALITY, *INSPECT})
code("the metric of authors", "safmn/quality/authors.py", "smsr_luma", QUALITY)
code(
    "what makes networks fast",
    "safmn/networks/acceleration.py",
    "FastSAFM",
    {*TRAIN, *QUALITY, *INSPECT, "memory"} - (FOLLOWING - TRAIN),
    FOLLOWING - TRAIN,
)
code("the counting", "safmn/cost/complexity.py", "measure", {"complexity"})
code("the prediction of memory", "safmn/cost/memory.py", "predict", {"memory"})
code("the looking", "safmn/inspection/record.py", "inspect", INSPECT)
code("where to look", "safmn/inspection/scenes.py", "richest", INSPECT)
code(
    "a published network",
    "safmn/networks/imdn.py",
    "IMDN",
    {"complexity", "memory", "published imdn", "inspect imdn"},
)
code(
    "a part of one variant",
    "safmn/networks/safmn.py",
    "CCM",
    {"complexity", "memory", "train safmn"},
    {"evaluate safmn", "inspect safmn"},
)
case(
    "a number of a variant",
    variant("ccm_none", network={"dim": 40}),
    "ablations/ccm_none.yaml",
    {"complexity", "train ccm_none"},
    {"evaluate ccm_none", "inspect ccm_none"},
)
case("a variant's title", variant("ccm_none", title="Nothing"), "ablations/ccm_none.yaml", {"tables"}, set())
case("a variant's description", variant("ccm_none", description="No CCM."), "ablations/ccm_none.yaml", set(), set())
case(
    "published weights",
    longer("published/IMDN_x4.pth"),
    "published/IMDN_x4.pth",
    {"published imdn", "inspect imdn"},
    set(),
)
case("the best weights", longer(training("best")), training("best"), {"evaluate safmn", "inspect safmn"}, set())
case("the last weights", longer(training("last")), training("last"), {"evaluate safmn"}, set())
case("the counts", longer(RESULTS / "cost/complexity.json"), RESULTS / "cost/complexity.json", {"tables"}, set())
SETTINGS = {
    "the description": (study(description="In other words"), {"tables"}),
    "images to test on": (study(data=SELECTED), {*QUALITY, *INSPECT}),
    "a figure's setting": (study(figures={"sigma": 2.0}), INSPECT),
    "images to time on": (study(efficiency={"images": 3}), {"runtime", "operations"}),
    "rounds of timing": (study(efficiency={"rounds": 2}), {"runtime"}),
    "processes of timing": (study(efficiency={"processes": 2}), {"runtime"}),
    "fewer networks": (study(networks=["bicubic"]), {"complexity", "memory", "runtime"}),
    "how a run is carried out": (study(run={"log_every": 7}), {"tables"}),
}
for name, (edit, stale) in SETTINGS.items():
    case(name, edit, "study.yaml", stale, set())


@pytest.mark.parametrize("name", CASES)
def test_an_edit_makes_those_out_of_date_that_depend_on_it(project, name):
    edit, file, own, following = CASES[name]
    place = project.folder / file
    before, status = place.read_bytes(), place.stat()
    try:
        edit(project.folder)
        assert project.stale() == (own, following)
    finally:
        place.unlink()
        place.write_bytes(before)
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_another_place_of_the_data_is_packed_again(project):
    """The images may be others there, even with the same names."""
    shutil.copytree(project.folder / "datasets/tested", project.folder / "elsewhere", copy_function=shutil.copy2)
    place = project.folder / "study.yaml"
    before = place.read_text()
    try:
        study(data=STUDY["data"] | {"folders": {"tested": "elsewhere"}})(project.folder)
        own, following = project.stale()
        assert own == {"pack tested"}
        assert following == {*QUALITY, *INSPECT, "tables"}
    finally:
        place.write_text(before)
