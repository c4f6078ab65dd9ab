"""What a study says, in three sentences, computed from its cells: what agrees, what contradicts, what it cannot say."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from safmn import layout, paths, provenance
from safmn.networks import all_networks
from safmn.paper import verdicts
from safmn.paper.cell import PREDICTED, TRAINED, Cell
from safmn.report import costs
from safmn.report.ablation import BASELINE
from safmn.report.ablation_table import label
from safmn.report.joined import Joined
from safmn.report.measured import benchmark_title, benchmarks
from safmn.report.sentences import DECIDING, about
from safmn.study import Study, differences_from_paper

AGREE = (verdicts.EXACT, verdicts.ROUNDING, verdicts.REPRODUCED)
KINDS: dict[str, Callable[[Cell], bool]] = {  # kind of quantity -> whether a cell is of it, the first that fits
    "parameters, FLOPs and activations": lambda cell: cell.column in costs.COUNTS,
    "memory": lambda cell: cell.column == "gpu_memory",
    "time": lambda cell: cell.is_time,
    "PSNR and SSIM": lambda cell: True,
}
MAX_NAMED = 4  # rows or claims that a sentence names
MAX_DEPARTURES = 2  # reasons that it names
TABLE_1 = "snakemake --cores all --configfile config/table1.yaml --config data_root=FOLDER weights_root=FOLDER"
PAPER = "snakemake --cores all --configfile config/paper.yaml"


def sentences(joined: Joined) -> list[tuple[str, str]]:
    """Return the three sentences: (beginning, rest)."""
    printed = [cell for cell in joined.cells if cell.published]
    contrasts = {name: joined.contrast(name, joined.decisive) for name in joined.study.variants if name != BASELINE}
    directions = {name: each.verdict for name, each in contrasts.items() if each.measured and each.printed is not None}
    return [
        ("Agrees with the paper:", _agreeing(joined, printed, directions)),
        ("Contradicts it:", _contradicting(joined, printed, directions)),
        ("Cannot say:", _open(joined.study, printed, directions)),
    ]


def _of_kind(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    kinds: dict[str, list[Cell]] = {kind: [] for kind in KINDS}
    for cell in cells:
        kinds[next(kind for kind, fits in KINDS.items() if fits(cell))].append(cell)
    return kinds


def _agreeing(joined: Joined, printed: Sequence[Cell], directions: Mapping[str, str]) -> str:
    parts = []
    for kind, own in _of_kind(cell for cell in printed if not cell.is_missing).items():
        explained = sum(cell.verdict == verdicts.EXPLAINED for cell in own)
        agree = sum(cell.verdict in AGREE for cell in own)
        if not agree + explained:
            continue
        asides = [f"{explained} others differ, and the cause is computed"] if explained else []
        asides += ["predicted"] if all(cell.origin.startswith(PREDICTED) for cell in own) else []
        aside = f" ({'; '.join(asides)})" if asides else ""
        parts.append(f"{agree} of {len(own)} values of {kind}{aside}")
    same = [name for name, verdict in directions.items() if verdict == verdicts.REPRODUCED]
    if same:
        parts.append(_of_directions(joined, f"{len(same)} of {len(directions)} differences", same))
    parts += _of_claims(joined, verdicts.REPRODUCED)
    return _sentence(parts, "nothing yet, since no published value has a measured one.")


def _contradicting(joined: Joined, printed: Sequence[Cell], directions: Mapping[str, str]) -> str:
    parts = _values(cell for cell in printed if cell.verdict == verdicts.CONTRADICTED)
    opposite = [name for name, verdict in directions.items() if verdict == verdicts.CONTRADICTED]
    if opposite:
        parts.append(_of_directions(joined, _count(opposite, "difference"), opposite))
    parts += _of_claims(joined, verdicts.CONTRADICTED)
    return _sentence(parts, "nothing that was measured here.")


def _of_directions(joined: Joined, count: str, names: Sequence[str]) -> str:
    test_set = joined.decisive.title if joined.decisive else ""
    return f"the direction of {count} to the baseline on {test_set} ({_named(names)})"


def _of_claims(joined: Joined, verdict: str) -> list[str]:
    """Say how many of the claims that measured values decide have a verdict; of those contradicted, also which."""
    decided = [result for result in joined.claims if result.measured.verdict in DECIDING]
    own = [about(result.claim) for result in decided if result.measured.verdict == verdict]
    text = f"{len(own)} of the {len(decided)} claims of its text that measured values can decide"
    named = f" ({_first(own, '; ')})" if verdict == verdicts.CONTRADICTED else ""
    return [text + named] if own else []


def _values(cells: Iterable[Cell]) -> list[str]:
    """Count the cells of each kind, and name their rows."""
    kinds = _of_kind(cells).items()
    return [f"{_count(own, 'value')} of {kind} ({_named(cell.network for cell in own)})" for kind, own in kinds if own]


def _open(study: Study, printed: Sequence[Cell], directions: Mapping[str, str]) -> str:
    parts = []
    undecided = [name for name, verdict in directions.items() if verdict == verdicts.UNDECIDABLE]
    if undecided:
        which = f"{len(undecided)} of {len(directions)} variants are better or worse than the baseline"
        parts.append(f"whether {which} ({_named(undecided)})")
    absent = [
        name for name in study.variants if name not in directions and name != BASELINE and all_networks()[name].rows
    ]
    if study.training and absent:
        parts.append(
            f"anything about {_count(absent, 'variant')} without a difference to the baseline yet ({_named(absent)})"
        )
    departures = differences_from_paper(study) if study.training else []
    departures.sort(key=lambda reason: not reason.startswith(("trained", "iterations")))  # what matters most first
    if departures:
        more = f" and {len(departures) - MAX_DEPARTURES} more" if len(departures) > MAX_DEPARTURES else ""
        parts.append(
            "whether the paper's PSNR and SSIM of trained networks are right "
            f"({'; '.join(departures[:MAX_DEPARTURES])}{more})"
        )
    parts += _values(cell for cell in printed if _is_open(cell, bool(departures)))
    missing = sum(cell.is_missing for cell in printed)
    if missing:
        parts.append(f"anything about {missing} of the {len(printed)} published values, for which it has no number")
    return _sentence(parts, "nothing: every published value is decided.")


def _is_open(cell: Cell, departs: bool) -> bool:
    """Whether a cell has a number that decides nothing; without those that the study's training speaks for already."""
    if departs and cell.origin.startswith(TRAINED):
        return False
    return cell.verdict in (verdicts.NOT_COMPARABLE, verdicts.UNDECIDABLE)


def _sentence(parts: Sequence[str], nothing: str) -> str:
    return "; ".join(parts) + "." if parts else nothing


def _count(things: Sequence[Any], word: str) -> str:
    return f"{len(things)} {word}{'s' * (len(things) != 1)}"


def _named(names: Iterable[str]) -> str:
    """Name the first rows as the paper does, and say how many others there are."""
    networks = all_networks()
    return _first([label(networks[name]) if name in networks else name for name in dict.fromkeys(names)], ", ")


def _first(titles: Sequence[str], separator: str) -> str:
    more = f" and {len(titles) - MAX_NAMED + 1} more" if len(titles) > MAX_NAMED else ""
    return separator.join(titles[: MAX_NAMED - 1] if more else titles) + more


# --- When, where, with what -------------------------------------------------------------------------------------------


def facts(study: Study, gathered: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return date, device, duration, commit and data of a study, as far as `provenance.json` has them."""
    found: list[tuple[str, str]] = []
    environments = (gathered or {}).get("environments", [])
    if gathered and gathered.get("started"):
        found.append(("Date", datetime.fromisoformat(gathered["started"]).strftime("%Y-%m-%d")))
    if devices := list(dict.fromkeys(filter(None, map(_device, environments)))):
        found.append(("Device", ", ".join(devices)))
    if gathered and gathered.get("seconds"):
        found.append(("Computing", duration(gathered["seconds"])))
    if commits := provenance.commits((environment["code"] for environment in environments), digits=10):
        found.append(("Commit", ", ".join(commits)))
    data = [f"trained on {', '.join(study.data.train)}"] if study.training else []
    data += [f"tested on {', '.join(study.data.test)}"] if study.data.test else []
    return [*found, ("Data", "; ".join(data))] if data else found


def _device(environment: Mapping[str, Any]) -> str:
    device, host = environment["device"], environment["host"]
    if device.get("device") == "cuda":
        return str(device.get("gpu") or "GPU")
    return str(host.get("cpu") or "CPU") if device.get("device") == "cpu" else ""


def duration(seconds: float) -> str:
    """Show a duration in its two largest units."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"


# --- What has no number -----------------------------------------------------------------------------------------------


def unmeasured(study: Study, cells: Iterable[Cell]) -> list[tuple[str, int, str]]:
    """Return what has no measured number: quantities and tables, number of published cells, command that fills them."""
    by_command: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.published and cell.is_missing:
            by_command.setdefault(_command(study, cell), []).append(cell)
    lines = []
    for command, own in by_command.items():
        titles = list(dict.fromkeys(_quantity(study, cell) for cell in own))
        numbers = sorted({cell.table for cell in own})
        where = f"Table{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        lines.append((f"{', '.join(titles)} ({where})", len(own), command))
    return sorted(lines, key=lambda line: -line[1])


def own_command(study: Study) -> str:
    """Return the command that runs the study, or what is left of it."""
    if study.name == "mini":
        return "snakemake --cores all"
    packaged = f"config/{study.name}.yaml"
    file = packaged if (paths.ROOT / packaged).is_file() else f"results/{study.name}/{layout.STUDY}"
    return f"snakemake --cores all --configfile {file}"


def _command(study: Study, cell: Cell) -> str:
    name = cell.column.rpartition("_")[0]
    if cell.column == "gpu_memory" or cell.is_time or cell.column in costs.COUNTS:
        return own_command(study) + (
            " on a machine with a GPU" if cell.is_time and study.efficiency.reason_untimed else ""
        )
    tested = any(benchmark.id == name for benchmark in benchmarks(study))
    if tested and study.training and cell.network in study.variants and cell.scale in study.scales_of(cell.network):
        return own_command(study)
    return TABLE_1 if cell.table == 1 else PAPER


def _quantity(study: Study, cell: Cell) -> str:
    name, _, metric = cell.column.rpartition("_")
    if metric in ("psnr", "ssim"):
        return benchmark_title(name, study)
    return "times" if cell.is_time else {"gpu_memory": "memory"}.get(cell.column, "counts")
