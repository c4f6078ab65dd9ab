"""`safmn complexity`: parameters, FLOPs, activations and convolutions, with the paper's cells and their verdicts."""

import argparse
from pathlib import Path
from typing import Any

from safmn import networks, provenance
from safmn.commands import options, output
from safmn.cost.identity import of_counts
from safmn.errors import UserError, one_line
from safmn.files import read_json, write_json
from safmn.networks.registry import Network
from safmn.networks.variants import discover
from safmn.paper import verdicts
from safmn.paper.published import PrintedCell
from safmn.paper.verdicts import Verdict
from safmn.provenance import Begun

HELP = (
    "Counts parameters (K), FLOPs (G, one multiply-add is one), activations (M, elements that convolutions and linear "
    "layers put out) and convolutions by the paper's convention: fvcore, eval mode, one LR image whose enlargement is "
    "1280x720 pixels, or of the size that --height and --width give. Beside each stand the paper's cells for it, and a "
    "verdict: exact, rounding (equal at the published precision), explained (another way of counting, computed here, "
    "gives the published value) or contradicted. What has a cost but no rule (a Fourier transform, a library's own "
    "kernel) is named in a warning; >= marks the lower bound."
)
EXAMPLES = """examples:
  safmn complexity safmn                               the baseline at x4
  safmn complexity imdn carn --scale 2 3 4             two networks at three scales
  safmn complexity safmn --scale 4 --json              one object with exact integers; a list of them for several
  safmn complexity safmn_pp --height 256 --width 256   an LR image of 256x256 pixels, as the NTIRE challenges count
  safmn complexity safmn imdn --conventions            what fvcore, thop, ptflops and these challenges give, and why
  safmn complexity no_fm --check --out no_fm.json      exit status 2 and no file where a count contradicts the paper
  safmn complexity imdn pan --scale all --out counts/  counts/imdn.json and counts/pan.json

units:
  params, flops, activations and convolutions are numbers, not K, G or M, in JSON; input is [height, width] in pixels of
  the LR image, which --height and --width give too; parts of --conventions are FLOPs; uncounted lists
  what has no rule, and lower_bound says whether there is any
"""

COLUMNS = {"params": "K", "flops": "G", "activations": "M", "convolutions": ""}
HEADERS = ("network", "scale", "figure", "counted", "exactly", "published", "where", "verdict")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.add_names(parser)
    parser.add_argument(
        "--scale",
        nargs="+",
        type=_scale,
        default=[4],
        metavar="S",
        help="2, 3, 4, or all: each scale that the paper has the network at (default: 4)",
    )
    parser.add_argument("--height", type=int, metavar="H", help="of the LR image in pixels; with --width")
    parser.add_argument("--width", type=int, metavar="W", help="likewise; without both: the paper's, 180x320 at x4")
    parser.add_argument(
        "--conventions",
        action="store_true",
        help="show what fvcore, thop, ptflops and the programs of the NTIRE challenges count, and the reasons",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="also write JSON: to a file that ends with .json, for one NAME, or to NAME.json in a folder",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="fail (exit status 2, no file) where a count contradicts the row of the paper that the network stands for",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="do not count again what a file in the folder of --out holds, counted by the same code; shows the others",
    )
    parser.add_argument(
        "--record", type=Path, metavar="FILE.json", help="write which code each network was counted by, once all are"
    )


def run(args: argparse.Namespace) -> None:
    """Count each network at each scale, print the counts and check them."""
    args.names = options.names_of(args)
    if args.conventions or args.height is not None or args.width is not None:
        _count_otherwise(args)
        return
    begun = provenance.begin()
    infos = [networks.info(name) for name in dict.fromkeys(args.names)]
    keys = {network.name: of_counts(network.name) for network in infos}
    if args.out is not None and args.out.suffix == ".json" and len(infos) > 1:
        raise UserError(f"--out {args.out} is one file but {len(infos)} networks are asked for: name a folder")
    if args.keep:
        infos = [network for network in infos if not _is_counted(args.out, network, keys[network.name])]
    if infos:
        failures = _count(args, infos, keys, begun)
        if failures:
            raise UserError("; ".join(map(one_line, failures)))
    if args.record:
        write_json(args.record, keys)


def _count(args: argparse.Namespace, infos: list[Network], keys: dict[str, str], begun: Begun) -> list[str]:
    """Count, print and write; return what failed or contradicts the paper."""
    from safmn.cost.complexity import warnings
    from safmn.report import counts

    records: list[dict[str, Any]] = []
    lines: list[list[str]] = []
    notes: list[str] = []
    failures: list[str] = []
    contradictions: list[str] = []
    for network in infos:
        try:
            own, judged = counts.judge(network, args.scale)
        except UserError as error:
            if len(infos) == 1:
                raise
            failures.append(str(error))  # the others are counted all the same
            continue
        records += own
        lines += _lines(own, judged)
        for text in (text for record in own for text in warnings(record)):
            output.warn("complexity", text)
        notes += [
            f"{network.name}, {cell}, published {cell.printed} {cell.unit}, {verdict.verdict}: {verdict.note}"
            for cell, verdict in judged
            if verdict.note
        ]
        refused = counts.refusals(network.name, judged) if args.check else []
        contradictions += refused
        if args.out is not None:
            file = args.out if args.out.suffix == ".json" else args.out / f"{network.name}.json"
            if refused:
                file.unlink(missing_ok=True)  # an earlier count of the same name is no longer valid
            else:
                write_json(file, _document(network.name, own, begun) | {"key": keys[network.name]})
    if args.json and records:
        output.print_json(records[0] if len(records) == 1 else records)
    else:
        output.print_table(HEADERS, lines, right=("counted", "exactly", "published"))
        for note in notes:
            print(note)
    return failures + ([str(counts.refusal(contradictions))] if contradictions else [])


def _count_otherwise(args: argparse.Namespace) -> None:
    """Count at another size, or as other programs do: there is no published cell to compare with."""
    from safmn.cost import complexity, counters

    if args.out or args.check or args.keep or args.record:
        raise UserError("--out, --check, --keep and --record are for the paper's size: leave out --height and --width")
    size = complexity.chosen_size(args.height, args.width)
    infos = [networks.info(name) for name in dict.fromkeys(args.names)]
    asked = [(network, scale) for network in infos for scale in args.scale]
    pairs = [(n.name, at) for n, scale in asked for at in (n.scales if isinstance(scale, str) else (scale,))]
    if not args.conventions:
        records: list[dict[str, Any]] = [
            complexity.measure(name, scale, *(size or ())) for name, scale in dict.fromkeys(pairs)
        ]
        for text in (text for record in records for text in complexity.warnings(record)):
            output.warn("complexity", text)
        if args.json:
            output.print_json(records[0] if len(records) == 1 else records)
        else:
            height, width = records[0]["input"] if size is None else size
            print(f"LR image of {width}x{height} pixels (width x height)")
            output.print_table(HEADERS[:5], [line[:5] for line in _lines(records, [])], right=("counted", "exactly"))
        return
    documents = []
    for name, scale in dict.fromkeys(pairs):
        counts = counters.compare(name, scale, size)
        height, width = size or complexity.input_size(scale)
        programs = [count.record() for count in counts]
        documents.append({"network": name, "scale": scale, "input": [height, width], "programs": programs})
        if args.json:
            continue
        print(f"{name} x{scale}, LR image of {width}x{height} pixels (width x height)")
        shown = [
            [
                count.program,
                f"{verdicts.rounded(count.params, 'K'):,} K",
                f"{verdicts.rounded(count.total, 'G'):,} G",
                "" if count.activations is None else f"{verdicts.rounded(count.activations, 'M'):,} M",
                "" if count.convolutions is None else str(count.convolutions),
            ]
            for count in counts
        ]
        columns = ("program", "params", "flops", "activations", "convolutions")
        output.print_table(columns, shown, right=columns[1:])
        for count in counts:
            for reason in count.reasons:
                print(f"{count.program}: {reason}")
        print()
    if args.json:
        output.print_json(documents[0] if len(documents) == 1 else documents)
    elif size is None:
        print("The NTIRE challenges count at 256x256 pixels: --height 256 --width 256.")


def _is_counted(folder: Path | None, network: Network, key: str) -> bool:
    try:
        content = read_json(folder / f"{network.name}.json") if folder else {}
    except UserError:
        return False
    return isinstance(content, dict) and content.get("key") == key and len(content["scales"]) == len(network.scales)


def _document(name: str, records: list[dict[str, Any]], begun: Begun) -> dict[str, Any]:
    """Return what `--out` writes: the scales of one network, with what they have in common once, and provenance."""
    from safmn.device.description import describe

    variant = discover().get(name)
    common = ("network", "scale", "versions", "convention")
    return {
        "network": name,
        "convention": records[0]["convention"],
        "versions": records[0]["versions"],
        "scales": {
            str(record["scale"]): {key: value for key, value in record.items() if key not in common}
            for record in records
        },
        "provenance": begun.result(
            describe("meta"),
            specification={
                "command": "complexity",
                "network": name,
                "switches": variant.switches if variant else {},
                "scales": [record["scale"] for record in records],
            },
        ),
    }


def _lines(records: list[dict[str, Any]], judged: list[tuple[PrintedCell, Verdict]]) -> list[list[str]]:
    """Return the table's rows: one a figure, and one more for each further cell of the paper that shows it."""
    lines = []
    for record in records:
        for column, unit in COLUMNS.items():
            value = record[column]
            at_least = ">= " if record["lower_bound"] and column in ("flops", "activations") else ""
            counted = f"{at_least}{verdicts.rounded(value, unit):,} {unit}" if unit else f"{value:,}"
            head = [record["network"], f"x{record['scale']}", column, counted, f"{value:,}"]
            cells = [
                [f"{cell.printed} {cell.unit}", f"Table {cell.table}, {cell.label}", verdict.verdict]
                for cell, verdict in judged
                if (cell.scale, cell.column) == (record["scale"], column)
            ] or [["", "not published", ""]]
            for cell in cells:
                lines.append(head + cell)
                head = [""] * len(head)
    return lines


def _scale(text: str) -> int | str:
    if text == "all":
        return text
    try:
        return int(text.removeprefix("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a scale: give 2, 3, 4 or all, and names before --scale"
        ) from None
