"""Measure the overhead of large studies: CPU time and memory by the number of variants, scales and seeds.

parse, dry run,  of Snakemake, on a throw-away study with no results: the worst case, since every job is to be done;
one target       a dry run for one training run of it, which is about what a job on a cluster does before it begins
nothing to do    of Snakemake, on the same study after all its jobs count as done (`--touch`)
tables, status,  of `safmn`, on a throw-away study whose results were all made up
archive

Nothing is trained. CPU time (user and system, of the process and its children) is what counts, not the clock, since the
machine may be busy; the load is printed beside it.

    python benchmarks/dag.py                                 parse and dry run of 24, 240 and 1000 variants
    python benchmarks/dag.py 1000x1x4 --what "dry run"       1000 variants, one scale, four seeds
    python benchmarks/dag.py 1000 --what tables status archive
    python benchmarks/dag.py config/mini.yaml --what "dry run" "nothing to do"       an existing study
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LOOKS = ["parse", "dry run", "one target", "nothing to do", "tables", "status", "archive"]
SNAKEMAKE = LOOKS[:4]
DEPTHS = 25  # blocks of 1 to 25, after which the width changes


@dataclass(frozen=True)
class Figures:
    """One measurement of one study: jobs of its DAG, seconds, bytes."""

    what: str
    study: str
    jobs: int
    cpu_seconds: float
    wall_seconds: float
    peak_mib: float
    load: float
    status: int


def make(folder: Path, variants: int, scales: int, seeds: int) -> Path:
    """Write `variants` variants and a study of them; return the study's file."""
    ablations = folder / "ablations"
    shutil.copytree(ROOT / "ablations", ablations)  # the baseline is what others are compared with
    names = []
    for number in range(variants):
        name = f"made_{number:05}"
        switches = {"n_blocks": 1 + number % DEPTHS, "dim": 8 + 4 * (number // DEPTHS)}
        content = {"title": name, "description": "made up", "network": switches}
        (ablations / f"{name}.yaml").write_text(yaml.safe_dump(content))
        names.append(name)
    study = {
        "name": "made",
        "description": "To see how the DAG grows",
        # An ablation is trained at x4 alone where x4 is among the scales.
        "scales": [4] if scales == 1 else [2, 3],
        "seeds": list(range(seeds)),
        "variants": names,
        "networks": ["bicubic"],
        "data": {"train": ["photographs[4:]"], "validation": ["photographs[:1]"], "test": ["photographs[1:2]"]},
        "training": {"iterations": 4, "batch": 1, "patch": 16, "validate_every": 4},
    }
    file = folder / "made.yaml"
    file.write_text(yaml.safe_dump(study))
    return file


def make_up(file: Path) -> None:
    """Write made-up results of every run, as the stages would, in `results/made` below the present folder."""
    from safmn.study import Study
    from tests.report import fabricate

    study, folder = Study.load(file), Path("results/made")
    for run in study.runs():
        fabricate.run(folder, study, run.variant, run.seed, run.scale)
        for which in ("best", "last"):
            weights, psnr = f"seed{run.seed}_{which}", [28.0 + run.seed / 100]
            fabricate.quality(folder, run.variant, weights, "photographs", psnr, 0.8, run.scale)
    for number, name in enumerate(study.variants):
        fabricate.complexity(folder, name, 240_000 + number, 13_000_000_000, 76_000_000)


def finish(command: list[str | Path], folder: Path, environment: dict[str, str]) -> None:
    """Create every output of a study, empty, and let Snakemake record that its job is up to date."""

    def snakemake(*words: str) -> str:
        told = subprocess.run([*command, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return told.stdout

    for name in (line.split("\t")[0] for line in snakemake("--summary").splitlines()[1:]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    snakemake("--touch", "--forceall")
    for study in (folder / "results").iterdir():
        (study / "finished").touch()  # that Snakemake was started took it away


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "SAFMN_ABLATIONS": str(folder / "ablations"),
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }


def look(what: str, study: str, extra: list[str]) -> Figures:
    """Run one command once on a study, which is created unless it is a file. `what` is one of LOOKS."""
    numbers = [] if study.endswith(".yaml") else [int(word) for word in study.split("x")]
    variants, scales, seeds = (*numbers, 1, 1, 1)[:3]
    with tempfile.TemporaryDirectory(prefix="safmn-dag-") as name:
        folder = Path(name)
        file = make(folder, variants, scales, seeds) if numbers else Path(study).resolve()
        if not numbers:
            (folder / "ablations").symlink_to(ROOT / "ablations")
        if what in SNAKEMAKE:
            action = ["--list"] if what == "parse" else ["--dry-run", "--quiet", "rules"]
            if what == "one target":
                action.insert(0, f"results/made/training/made_00000/x{4 if scales == 1 else 2}_seed0/run.json")
            command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
            command += [*extra, "--configfile", file, "--cores", "2"]
            if what == "nothing to do":
                finish(command, folder, _environment(folder))
            command += action
        else:
            made_up = [sys.executable, __file__, "--make-up", file]
            subprocess.run(made_up, cwd=folder, env=_environment(folder), check=True)
            command = [sys.executable, "-m", "safmn", what, "--study", file, "--results", folder / "results/made"]
            command += ["--out", folder / "archive.zip"] if what == "archive" else []
        environment, place = _environment(folder), ROOT if what in SNAKEMAKE else folder
        load, began = os.getloadavg()[0], time.monotonic()
        with open(folder / "output", "w") as output:
            process = subprocess.Popen(
                [str(word) for word in command], stdout=output, stderr=subprocess.STDOUT, cwd=place, env=environment
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - began
        said = (folder / "output").read_text()
        if process.returncode:
            print(said[-2000:], file=sys.stderr)
        totals = re.findall(r"^total\s+(\d+)$", said, re.MULTILINE)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, KiB elsewhere
    return Figures(
        what,
        study,
        int(totals[0]) if totals else 0,
        round(usage.ru_utime + usage.ru_stime, 2),
        round(wall, 2),
        round(usage.ru_maxrss / unit, 1),
        round(load, 2),
        process.returncode,
    )


def main() -> None:
    """Print a line a study, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "studies",
        nargs="*",
        default=["24", "240", "1000"],
        metavar="VARIANTS[xSCALES[xSEEDS]]",
        help="studies to make, e.g. 1000 or 500x2x3 (scales: 1 or 2), or a file; default: 24 240 1000",
    )
    parser.add_argument("--what", nargs="+", choices=LOOKS, default=LOOKS[:2], help="default: parse, dry run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--extra", action="append", default=[], help="a further argument for Snakemake")
    parser.add_argument("--make-up", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make_up:
        make_up(args.make_up)
        return
    found = []
    if not args.json:
        print(f"Snakemake {version('snakemake')}, Python {platform.python_version()}, {os.cpu_count()} cores")
        print(f"{'study':>16} {'what':>13} {'jobs':>7} {'CPU s':>8} {'clock s':>8} {'MiB':>8} {'load':>5}")
    for text in args.studies:
        for what in args.what:
            each = look(what, text, args.extra)
            found.append(each)
            if not args.json:
                print(
                    f"{text:>16} {what:>13} {each.jobs:>7,} {each.cpu_seconds:>8.1f} {each.wall_seconds:>8.1f} "
                    f"{each.peak_mib:>8.0f} {each.load:>5.1f}" + (" FAILED" if each.status else ""),
                    flush=True,
                )
    if args.json:
        print(json.dumps([asdict(each) for each in found], indent=2))


if __name__ == "__main__":
    main()
