"""Cells of what a network costs: counts, memory, time."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from safmn import layout
from safmn.paper import published, verdicts
from safmn.paper.cell import COUNTED, LOWER_BOUND, MEASURED, PREDICTED, Cell
from safmn.report import trained
from safmn.report.evaluated import device_type
from safmn.report.measured import Absent, Record, Results, requested_size

PAPER_GPU = "RTX 3090"  # Section 4.1
PAPER_IMAGES = 50  # Tables 2 and 5
PAPER_LR = (180, 320)  # height, width
COUNTS = {"params": "K", "flops": "G", "activations": "M"}
OPERATIONS = {column: title for title, column in published.OPERATIONS.items()}
"""Column of a cell of Table 5 -> the paper's name of the operation."""


def count(cell: Cell, results: Results) -> Cell:
    """Fill in parameters, FLOPs or acts; the latter are lower bounds where an operation could not be counted."""
    record, file = results.complexity(cell.network, cell.scale), layout.complexity(cell.network)
    if isinstance(record, Absent):
        return cell.missing(record.reason or "not counted yet: `snakemake`")
    exact = record[cell.column]
    verdict = None
    if cell.published:
        alternatives = record["alternatives"].get(cell.column, ())
        verdict = verdicts.count(cell.published, cell.unit, exact, alternatives)
    remarks, origin = [], COUNTED
    if cell.column != "params" and record["lower_bound"]:
        remarks.append(_uncounted(record["uncounted"]))
        origin = LOWER_BOUND
    if cell.column != "params" and record["value_reads"]:
        remarks.append("the network looks at values, so this is the count of one random image")
    value = float(Decimal(exact) / published.UNITS[cell.unit])
    return cell.filled(value, verdict, "; ".join(remarks), origin=origin, remarks=tuple(remarks), files=(file,))


def memory(cell: Cell, results: Results) -> Cell:
    """Fill in the peak memory, measured on a GPU or predicted."""
    record = results.memory(cell.network)
    if isinstance(record, Absent):
        return cell.missing(record.reason or "not predicted yet: `snakemake`")
    facts: dict[str, Any] = {"origin": PREDICTED, "files": (layout.cost("memory"),)}
    if record["measured"]:
        note = f"measured on {record['gpu'] or 'a GPU'}; predicted {record['predicted'] / 2**20:.2f} MiB"
        if record["flagged"]:
            note += ", more than 10 % off: one of the two needs an explanation"
        facts |= {"origin": MEASURED, "device": record["device"]}
    else:
        where = f"in {record['layer']}" if record["layer"] else "in the network itself"
        note = f"predicted without a GPU, peak {where}"
        if record["trouble"]:
            note = f"{record['trouble']}; {note}"
    value = record["bytes"] / 2**20
    verdict = verdicts.cost(cell.published, value, _other_size(record["settings"])) if cell.published else None
    return cell.filled(value, verdict, note, **facts)


def runtime(cell: Cell, results: Results, reason: str) -> Cell:
    """Fill in the mean time of an image; `reason` says why there may be no record."""
    record = results.runtime(cell.network)
    if isinstance(record, Absent):
        return cell.missing(record.reason or reason)
    if record["status"] != "timed":
        return cell.missing(untimed(record) or f"{record['status']}: no reason recorded")
    note = [f"mean of {record['settings'].get('images')} images, median {record['median_ms']:.2f} ms"]
    if "spread_percent" in record:
        note.append(f"processes differ by {float(record['spread_percent']):.1f} %")
    if "ratio_to_safmn" in record:
        note.append(f"{float(record['ratio_to_safmn']):.3f} times SAFMN in the same run")
    habit = record.get("habit") or {}
    if habit.get("status") == "timed":
        note.append(f"one pass without warm-up {float(habit['mean_ms']):.2f} ms")
    return _time(cell, record["mean_ms"], record, "; ".join(note), layout.cost("runtime"))


def operation(cell: Cell, results: Results, reason: str) -> Cell:
    """Fill in the time of one kind of operation in 50 images, Table 5; `reason` says why there may be none."""
    record = results.operation(OPERATIONS[cell.column])
    if isinstance(record, Absent):
        return cell.missing(record.reason or reason)
    images = record["settings"].get("images")
    note = f"{record['share']:.1%} of the forward pass under the profiler"
    if images != PAPER_IMAGES:
        note += f"; of {images} images, scaled to {PAPER_IMAGES}"
    return _time(cell, PAPER_IMAGES * record["per_image_ms"], record, note, layout.cost("operations"))


def untimed(record: Record) -> str:
    """Say why a record of times has none; "" where it gives no reason."""
    reason = record.get("message") or record.get("reason")
    return f"{record.get('status')}{requested_size(record)}: {reason}" if reason else ""


def _time(cell: Cell, value: float, record: Record, note: str, file: str) -> Cell:
    """Fill in a time (ms): comparable on the paper's GPU only, and without a difference on a CPU."""
    name, device = trained.device(record["provenance"]), device_type(record) or "unknown"
    reason = _other_size(record["settings"])
    if device != "cuda":
        reason = f"time of a {'CPU' if device == 'cpu' else device}, not of a GPU: {name}"
    elif PAPER_GPU not in name:
        reason = f"measured on {name}, printed for an {PAPER_GPU}"
    else:
        note += f"; {name}"
    verdict = verdicts.cost(cell.published, value, reason) if cell.published else None
    facts = {"device": device, "origin": MEASURED, "files": (file,)}
    return cell.filled(value, verdict, note, same_quantity=device == "cuda", **facts)


def _other_size(settings: Record) -> str:
    """Say that times and peaks are of an LR image of another size than the paper's, which is another quantity."""
    height, width = settings.get("height"), settings.get("width")
    if (height, width) == PAPER_LR or None in (height, width):
        return ""
    return f"an LR image of {width}x{height} instead of {PAPER_LR[1]}x{PAPER_LR[0]}"


def _uncounted(operations: Any) -> str:
    listed = operations if isinstance(operations, list) else []
    named = [f"{part.get('operation')} ({part.get('calls')} calls)" for part in listed if isinstance(part, Mapping)]
    return f"a lower bound: {', '.join(named) or 'some operations'} could not be counted"
