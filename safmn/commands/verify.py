"""`safmn verify`: check somebody else's archive of a study."""

import argparse
import tempfile
from pathlib import Path

from safmn.archive import must_exist
from safmn.commands import output

HELP = """Check an archive of `safmn archive`, a zip file or a folder, in steps:

  whole         every file against its hash, the description against its seal
  consistent    tables, claims and figures rendered again from the archived results: the same bytes
  evaluated     archived weights on your images, which are compared with the archive's first: the same PSNR and SSIM
  counted       parameters, FLOPs, activations and predicted memory: the same numbers
  retrained     variants trained anew (--retrain): the same bytes, or a PSNR within the spread between seeds
  extrapolated  the first iterations trained anew (--extrapolate): the same lines of the history

Each step says what it will take before it begins. No code of the archive is run without --trust-code.
Exit status: 0 nothing is refuted, 1 something is, 2 a mistake."""

EXAMPLES = """examples:
  safmn verify mini.zip
  safmn verify t291.zip --data-root /path/to/datasets --out review.md --reviewer "Ada Lovelace"
  safmn verify t291.zip --data-root /path/to/datasets --steps extrapolated --extrapolate no_fm ln_bn --iterations 200
  safmn verify mini.zip --steps retrained --retrain no_fm --device cpu --add-review

Same kind of device and version of torch: PSNR (dB) and SSIM equal to 1e-6, weights and history equal to the byte.
Otherwise: 0.01 dB and 0.0002; losses 1 % apart at most. Beside review.md, review.json is for programs."""


STEPS = ("whole", "consistent", "evaluated", "counted", "retrained", "extrapolated")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="a zip file or an unpacked folder")
    parser.add_argument("--data-root", metavar="DIR", help="your datasets, one folder each")
    parser.add_argument("--weights-root", metavar="DIR", help="your files of published weights")
    parser.add_argument("--steps", nargs="+", choices=STEPS, help="these steps only (default: all)")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="evaluate and count these only (default: all)")
    parser.add_argument("--retrain", nargs="+", default=[], metavar="VARIANT", help="train anew: its first seed, at x4")
    parser.add_argument("--extrapolate", nargs="+", default=[], metavar="VARIANT", help="train the beginning anew")
    parser.add_argument("--iterations", type=int, metavar="N", help="of the beginning (default: two lines' worth)")
    parser.add_argument(
        "--trust-code", action="store_true", help="run networks and losses that only the archive has: read them first"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one")
    parser.add_argument("--reviewer", metavar="NAME", help="who verifies, to be named in the report")
    parser.add_argument("--out", type=Path, metavar="REPORT.md", help="the report; REPORT.json comes beside it")
    parser.add_argument("--add-review", action="store_true", help="put the report into the archive, too")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Verify, print, write; return 1 if something is refuted."""
    must_exist(args.archive)
    from safmn.archive import reviews, verification
    from safmn.archive.findings import NOT_CHECKED, NOTED, REFUTED, UNDECIDED, Step
    from safmn.archive.steps import Wishes
    from safmn.device import lease
    from safmn.errors import UserError, one_line
    from safmn.files import write_json, write_text

    if args.iterations is not None and args.iterations < 1:
        raise UserError(f"--iterations {args.iterations}: give at least 1")
    if args.out is not None and args.out.suffix == ".json":
        raise UserError(f"--out {args.out}: name the report for people, such as review.md; review.json comes beside it")
    wishes = Wishes(
        steps=tuple(name for name in STEPS if args.steps is None or name in args.steps),
        data_root=args.data_root,
        weights_root=args.weights_root,
        networks=set(args.networks) if args.networks else None,
        retrain=tuple(args.retrain),
        extrapolate=tuple(args.extrapolate),
        iterations=args.iterations,
        device=args.device,
        reviewer=args.reviewer,
        trust_code=args.trust_code,
    )

    def before(step: Step) -> None:
        if not args.json:
            print(f"{step.name}: {step.asks} Expected: {step.cost}", flush=True)

    def after(step: Step) -> None:
        if args.json:
            return
        print(f"  {step.verdict} in {step.seconds:.1f} s ({step.counted() or 'nothing found'})", flush=True)
        for finding in step.of(REFUTED, UNDECIDED, NOT_CHECKED, NOTED)[:20]:
            print(f"  {finding.verdict}: {one_line(str(finding))}", flush=True)

    with lease.share(args.device), tempfile.TemporaryDirectory(prefix="safmn-verify-") as scratch:
        found = verification.verify(args.archive, wishes, Path(scratch), before, after)
    record = found.record()
    if args.out is not None:
        write_text(args.out, found.text())
        write_json(args.out.with_suffix(".json"), record)
    if args.add_review:
        if found.is_refuted and not found.seal:
            raise UserError(f"{args.archive} is refused: a review of it can only lie beside it, see --out")
        reviews.add(args.archive, record, found.text())
    if args.json:
        output.print_json(record)
    else:
        print(f"\n{found.paragraph()}")
        for text in found.earlier:
            print(f"review in the archive: {one_line(text)}")
    return 1 if found.is_refuted else 0
