"""`safmn gpu-check`: the first hour on a GPU in a quarter of one."""

import argparse

HELP = """Check a GPU and measure what to choose on it, in under 15 minutes: equality with the CPU, bits of CUDA graph
and resumed runs, memory against its prediction, forms of the training step beside the reference, jobs that share the
device, the dearest kernels, Tables 2 and 5. Ends with a table, a recommendation and the hours of t291 and paper. Each
part has a process and a file of its own: killed or failed, the others are kept, and the same command goes on."""

EXAMPLES = """examples:
  safmn gpu-check                                              # results/gpu-check/<device>/report.md
  safmn gpu-check --parts equality graph step-usual            # these parts alone
  safmn gpu-check --device cpu --out check                     # what applies there, in a small size

Exit status: 0 all that ran is as it must be, 1 something is not, 75 the time was over: run the same command again."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--out", metavar="DIR", help="the folder of the check (default results/gpu-check/<device>)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these; a wrong name lists all")
    parser.add_argument("--again", action="store_true", help="repeat parts that are finished")
    parser.add_argument("--minutes", type=float, default=15, metavar="N", help="no part begins later (default 15)")
    parser.add_argument("--json", action="store_true", help="print summary.json instead of the page")


def run(args: argparse.Namespace) -> int:
    """Run the parts, write and print the page."""
    import re
    import sys
    from pathlib import Path

    from safmn import files
    from safmn.commands import output
    from safmn.device import lease
    from safmn.planning import gpu_check
    from safmn.planning.gpu_check import Part, Record

    parts = gpu_check.chosen(args.parts)

    def note(part: Part, record: Record, kept: bool) -> None:
        if not args.quiet:
            how = " (kept)" if kept else f" ({record['seconds']:.0f} s)"
            print(f"{part.name:16} {gpu_check.verdict(record):12}{record['summary']}{how}", file=sys.stderr, flush=True)

    with lease.alone(args.device) as leased:
        kind = args.device or ("cuda" if leased else "cpu")
        device = gpu_check.describe(kind)
        name = re.sub(r"[^a-z0-9]+", "-", str(device.get("gpu") or f"cpu-{device['cpu']}").lower()).strip("-")
        out = Path(args.out) if args.out else Path("results/gpu-check") / name
        whose = gpu_check.identity(device)
        records = gpu_check.run(out, kind, whose, parts, args.minutes, args.again, note)
    is_whole = len(records) == len(parts)
    records = gpu_check.kept(out, whose) | records
    page = gpu_check.report(records, device)
    advice = gpu_check.recommend(records)
    summary = {
        "device": device,
        "parts": {each: {key: records[each][key] for key in ("status", "passed", "summary")} for each in records},
        "recommended": advice,
        "expected": gpu_check.expected(records, advice),
    }
    if args.json:
        output.print_json(summary)
    else:
        print(page)
    files.write_json(out / "summary.json", summary)
    files.write_text(out / "report.md", page)
    if not args.json:
        print(f"written: {out / 'report.md'}")
    if not gpu_check.is_good(records):
        return 1
    return 0 if is_whole else 75
