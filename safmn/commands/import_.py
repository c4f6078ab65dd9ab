"""`safmn import`: the results of somebody else's archive, to go on from."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HELP = """Put the results of an archive of `safmn archive` into results/<study>, so that Snakemake takes them as done.
It then computes only what is missing, such as one more variant, and the tables show both. Imported numbers are marked in
every table, in the column `origin` of cells.csv, and in provenance.json. Refused where your images or the code differ
from those that made the results; the message names what differs."""

EXAMPLES = """examples:
  safmn import mini.zip
  safmn import t291.zip --data-root /path/to/datasets
  snakemake --cores all --configfile results/t291/study.json              # nothing is left to do
  snakemake --cores all --configfile results/t291/study.json --config variants=safmn,gated       # one more variant

Run it in the folder in which you run Snakemake. Your datasets are packed and compared first. No code of the archive is
run; its variants are in its folder ablations/ and must be in yours."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="a zip file or an unpacked folder")
    parser.add_argument("--data-root", metavar="DIR", help="your datasets, one folder each")
    parser.add_argument("--weights-root", metavar="DIR", help="your files of published weights, if the study uses any")


def run(args: argparse.Namespace) -> None:
    """Import, have Snakemake note what is done, render, print."""
    from safmn.archive.importing import take
    from safmn.archive.opening import opened
    from safmn.commands import output, tables
    from safmn.planning import jobs

    stages = {
        "packing": jobs.PACKING,
        "evaluation": jobs.EVALUATING,
        "inspection": jobs.LOOKING,
        "memory": ("safmn.cost.memory:predict", "safmn.cost.memory:measure"),
    }
    with opened(args.archive) as archive:
        summary = take(archive, args.data_root, args.weights_root, stages)
    study = str(summary.folder / "study.json")
    _note_as_done(study, [str(summary.folder / name) for name in summary.files])
    tables.run(argparse.Namespace(study=study, results=None, json=False))
    print(f"imported: {len(summary.files)} files into {summary.folder}, seal {summary.seal}")
    if summary.absent:
        output.warn("import", f"the archive does not hold {len(summary.absent)} files, such as {summary.absent[0]}")
    print(f"next: snakemake --cores all --configfile {study}")


def _note_as_done(study: str, files: list[str]) -> None:
    """Have Snakemake note parameters and inputs of the jobs that make these files, as if it had run them now."""
    from safmn import paths
    from safmn.errors import UserError, one_line

    snakefile = "Snakefile" if Path("Snakefile").is_file() else str(paths.SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--configfile", study, "--cores", "1"]
    listed = subprocess.run([*command, "--summary"], capture_output=True, text=True, check=False, env=os.environ)
    known = {line.split("\t")[0] for line in listed.stdout.splitlines()}
    targets = [file for file in files if file in known]
    if listed.returncode == 0 and targets:
        listed = subprocess.run(
            [*command, "--touch", "--forceall", *targets], capture_output=True, text=True, check=False, env=os.environ
        )
    if listed.returncode != 0:
        lines = (listed.stderr or listed.stdout).strip().splitlines()
        raise UserError(
            f"Snakemake does not take {study} ({one_line(lines[-1]) if lines else 'it failed'}): the files are imported "
            f"but would be computed again; correct that and run `{' '.join(command[1:])} --touch --forceall`"
        )
