"""`safmn import`: the results of somebody else's archive, to go on from."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from safmn.archive import must_exist

if TYPE_CHECKING:
    from safmn.archive.importing import Summary

HELP = """Put the results of an archive of `safmn archive` into results/<study>, so that Snakemake takes them as done.
It then computes only what is missing, such as one more variant, and the tables show both. Imported numbers are marked
in every table, in the column `origin` of cells.csv, and in provenance.json. Refused where your images or the code
differ from those that made the results; the message names what differs."""

EXAMPLES = """examples:
  safmn import mini.zip
  safmn import t291.zip --data-root /path/to/datasets
  snakemake --cores all --configfile results/t291/study.json              # nothing is left to do
  snakemake --cores all --configfile results/t291/study.json --config variants=safmn,gated       # one more variant

Run it in the folder in which you run Snakemake. Your datasets are packed and compared first. No code of the archive is
run. Variants, networks and losses that you do not have are in its folders ablations/, networks/ and config/: read them,
then --trust-code puts them into your project, where Snakemake runs them."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="a zip file or an unpacked folder")
    parser.add_argument("--data-root", metavar="DIR", help="your datasets, one folder each")
    parser.add_argument("--weights-root", metavar="DIR", help="your files of published weights, if the study uses any")
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="put its variants, networks and losses into your project: read them first",
    )


def run(args: argparse.Namespace) -> None:
    """Import, have Snakemake note what is done, render, print."""
    must_exist(args.archive)
    from safmn import layout
    from safmn.archive.findings import listed
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
        summary = take(archive, args.data_root, args.weights_root, stages, trust_code=args.trust_code)
    study = str(summary.folder / layout.STUDY)
    tables.run(argparse.Namespace(file=None, study=study, results=None, json=False))
    missing = _note_as_done(summary)
    for name in summary.own_files:
        print(f"new in your project: {name}")
    print(f"imported: {len(summary.files)} files into {summary.folder}, seal {summary.seal}")
    if summary.hidden:
        why = "the harness here has other files of these names, which are used"
        output.warn("import", f"left out of the project: {listed(summary.hidden)}: {why}")
    if summary.absent:
        names = listed(summary.absent, 3)
        output.warn("import", f"the archive does not hold {names}; `snakemake` makes them only if they are needed")
    if missing:
        print(f"not in the archive, to be made by snakemake: {len(missing)} files, such as {listed(missing, 3)}")
    print(f"next: snakemake --cores all --configfile {study}")


def _note_as_done(summary: "Summary") -> list[str]:
    """Have Snakemake note parameters and inputs of all jobs whose files are there, as if it had run them now.

    Returns:
        The files that the study asks for and that neither the archive holds nor a job that is done has left.
    """
    from safmn import layout

    lines = _snakemake(summary, "--summary").splitlines()
    status = {fields[0]: fields[4] for fields in (line.split("\t") for line in lines) if len(fields) > 4}
    known = {str(summary.folder / name) for name in (*summary.absent, layout.FINISHED)}
    missing = [name for name, word in status.items() if word == "missing" and name not in known]
    imported = [str(summary.folder / name) for name in summary.files]
    # The tables are done only if nothing is missing in them.
    _snakemake(summary, "--touch", "--forceall", *([name for name in imported if name in status] if missing else []))
    if not missing:
        (summary.folder / layout.FINISHED).touch()
    return missing


def _snakemake(summary: "Summary", *options: str) -> str:
    from safmn import layout, paths
    from safmn.errors import UserError, one_line

    snakefile = "Snakefile" if Path("Snakefile").is_file() else str(paths.SNAKEFILE)
    study = str(summary.folder / layout.STUDY)
    words = ["-m", "snakemake", "--snakefile", snakefile, "--configfile", study, "--cores", "1"]
    told = subprocess.run([sys.executable, *words, *options], capture_output=True, text=True, check=False)
    if told.returncode != 0:
        last = (told.stderr or told.stdout).strip().splitlines()[-1:] or ["it says nothing"]
        raise UserError(
            f"Snakemake does not take {study} ({one_line(last[0])}): the results are there, but would be computed "
            f"again; correct that, remove {summary.folder} and import again"
        )
    return told.stdout
