"""How far a study is, run by run, from the files in its folder. Changes nothing and waits for nobody."""

import json
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safmn import configuration, layout, locks
from safmn.data.packed import open_pairs
from safmn.data.sources import parse_selection
from safmn.errors import UserError, as_line
from safmn.planning.wallclock import makespan
from safmn.report.measured import Absent, Results, benchmarks, first_line
from safmn.study import Run, Study
from safmn.training import identity
from safmn.training import state as states

STATES = ("done", "collapsed", "running", "interrupted", "failed", "stale", "not started", "unreadable")
FINAL_FILES = (*map(layout.weights_file, layout.WEIGHTS), layout.HISTORY)
MAX_SILENCE = 300.0  # seconds without a new file after which a run on another machine counts as dead


@dataclass
class Status:
    """How far one run is.

    Attributes:
        run: the run.
        state: one of STATES.
        iterations: iterations in all.
        iteration: iterations done that count; of a running one, those of its newest state.
        seconds: spent by the sessions that led there.
        seconds_per_iteration: the run's own; None if it made no iteration.
        remaining_seconds: expected until it is done; None if no rate is known.
        remaining_from: the source of that rate: "own rate", "plan", "other runs", or "".
        remarks: further notes.
    """

    run: Run
    state: str
    iterations: int
    iteration: int = 0
    seconds: float = 0.0
    seconds_per_iteration: float | None = None
    remaining_seconds: float | None = None
    remaining_from: str = ""
    remarks: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        plain = asdict(self)
        return {"folder": self.run.folder, **plain.pop("run"), **plain, "seconds": round(self.seconds, 3)}


def look(
    study: Study, folder: Path, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Return the status of a study as plain data; times in seconds.

    Args:
        study: the study.
        folder: its results, `results/<study>`.
        on_progress: called with (runs looked at, runs in all).

    Returns:
        `runs`, `totals`, `stages` (stage -> [files present, files in all]), `plan` (device and file that expectations
        are from, or None) and `remarks`.
    """
    rates, plan, remarks = _plan(study, folder)
    save_every, runs = study.run.save_every, study.runs()
    data = {key: _packed(study, folder, *key) for key in {(run.scale, study.train_of(run.variant)) for run in runs}}
    statuses = []
    for run in runs:
        specification = study.specification(run)
        try:
            status = _status(run, specification, folder, data[run.scale, study.train_of(run.variant)], save_every)
        except (OSError, UserError) as error:
            status = Status(run, "unreadable", specification["training"]["iterations"], remarks=[as_line(error)])
        statuses.append(status)
        on_progress(len(statuses), len(runs))
    _expect(statuses, rates)
    return {
        "study": study.name,
        "folder": str(folder),
        "runs": [status.record() for status in statuses],
        "totals": _totals(statuses),
        "stages": _stages(study, folder),
        "plan": plan,
        "remarks": _other_settings(study, folder) + remarks,
    }


# --- One run ---------------------------------------------------------------------------------------------------------


def _status(
    run: Run, specification: dict[str, Any], folder: Path, data: dict[str, str] | None, save_every: float
) -> Status:
    place = folder / layout.run(run.variant, run.scale, run.seed)
    status = Status(run, "not started", specification["training"]["iterations"])
    record = Results(folder).record(run)
    holder = _holder(place / layout.STATE, save_every)
    stale: list[str] | None = []
    missing: list[str] = []
    if isinstance(record, Absent):
        status.remarks += [record.reason] if record.reason else []
    else:
        stale = changes(record, specification, data)
        missing = [name for name in FINAL_FILES if not (place / name).exists()]
        if not (holder or stale or missing):
            _finish(status, record)
            if stale is None:
                status.remarks.append("its data is not packed here, so whether code or data changed is not known")
            return status
    saved, saved_at = _newest(place / layout.STATE, status.remarks)
    if missing and not stale:
        absent = f"{', '.join(missing)} {'are' if missing[1:] else 'is'} missing"
        if saved:
            status.remarks.append(f"{absent}: training again writes what is missing, from the saved state")
        else:  # such as the committed results of somebody else, whose weights are not passed on
            stale = [absent]
    if saved and not stale and data is not None and saved["key"] != _key(specification, data):
        text = "its state at iteration {} belongs to another specification, code or data"
        stale = [text.format(saved["iteration"])]
    elif saved and not stale:
        status.iteration = saved["iteration"]
    sessions = record.get("sessions") if isinstance(record, dict) and stale else saved.get("sessions")
    status.seconds, status.seconds_per_iteration = _spent(sessions)  # even if it has to be spent again
    if stale and not stale[0].startswith(("code", "data", *FINAL_FILES)):  # another training has another rate
        status.seconds_per_iteration = None
    failed_at = _time(place / layout.FAILURE)
    if holder:
        status.state = "running"
        status.remarks.append(f"process {holder}")
    elif failed_at and failed_at >= saved_at:
        status.state = "failed"
        status.remarks.insert(0, first_line(place / layout.FAILURE))
    elif stale:
        status.state = "stale"
        status.remarks.insert(0, "; ".join(stale))
    elif saved:
        status.state = "interrupted"
    return status


def _finish(status: Status, record: dict[str, Any]) -> None:
    status.seconds, status.seconds_per_iteration = _spent(record.get("sessions"))
    status.state, status.iteration, status.remaining_seconds = "done", status.iterations, 0.0
    collapse = record.get("collapse")
    if record.get("outcome") == "collapsed" and isinstance(collapse, dict):
        status.state = "collapsed"
        status.iteration = min(status.iterations, int(_number(collapse.get("iteration"))))
        status.remarks.append(f"{collapse.get('reason', 'no reason kept')}, at iteration {status.iteration}")


def _holder(state: Path, save_every: float) -> str:
    """Return the process that trains in a folder, such as "41 on node7"; "" if there is none, as far as can be seen."""
    try:
        owner = (state / states.OWNER).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
    if locks.is_held(state / states.LOCK):
        return owner
    # Not every file system shows the locks of other machines.
    last_sign = max(map(_time, state.iterdir()))
    if any(_time(state.parent / end) >= last_sign for end in (layout.RUN, layout.FAILURE)):
        return ""
    silent = time.time() - last_sign
    is_elsewhere = owner.partition(" on ")[2] not in ("", socket.gethostname())
    return (
        f"{owner}, last sign {silent:.0f} s ago" if is_elsewhere and silent < max(MAX_SILENCE, 2 * save_every) else ""
    )


def _newest(folder: Path, remarks: list[str]) -> tuple[dict[str, Any], float]:
    """Return the newest valid state, with its `sessions`, and when it was saved; {} and 0 if there is none."""
    for file in sorted(folder.glob("iteration-*.state"), reverse=True):
        try:
            saved_at, saved = _time(file), states.read(file)
        except (FileNotFoundError, UserError) as error:
            remarks += [str(error)] if isinstance(error, UserError) else []  # else it was replaced meanwhile
            continue
        if saved is not None:
            return {**saved, "sessions": saved["content"].get("sessions")}, saved_at
        remarks.append(f"{file.name} is damaged: the state before it will be used")
    return {}, 0.0


def _spent(sessions: Any) -> tuple[float, float | None]:
    """Return (seconds in all, seconds for each iteration of the last one) of the sessions in a record or state."""
    seconds, rate = 0.0, None
    for session in sessions if isinstance(sessions, list) else []:
        if isinstance(session, dict):
            spent, count = _number(session.get("seconds")), _number(session.get("to")) - _number(session.get("from"))
            seconds += spent
            rate = spent / count if count > 0 and spent > 0 else rate
    return seconds, rate


# --- What makes a run stale ------------------------------------------------------------------------------------------


def changes(record: dict[str, Any], specification: dict[str, Any], data: dict[str, str] | None) -> list[str] | None:
    """Return what changed since a run finished, a phrase each.

    Args:
        record: its run.json.
        specification: the run as it is asked for now.
        data: its datasets now, name -> fingerprint; None if they are not packed.

    Returns:
        An empty list if nothing changed; None if the specification did not change and the data is not packed.
    """
    before, provenance = record.get("specification"), record.get("provenance")
    differing = differences(before, specification)
    phrases = [f"specification: {', '.join(differing)}"] if differing else []
    if data is None:
        return phrases or None
    if record.get("key") == _key(specification, data):
        return []
    data_before = provenance.get("data") if isinstance(provenance, dict) else None
    if data_before != data:
        phrases.append("data: other images")
    if not isinstance(data_before, dict) or record.get("key") != _key(before, data_before):
        phrases.append("code")
    return phrases


def differences(before: Any, now: Any, where: str = "") -> list[str]:
    """Return what differs between two pieces of plain data, a phrase for each value: "training.batch 2, now 4"."""
    return [
        f"{key or 'all'} {_shown(other)}, now {_shown(value)}"
        for key, value, other in configuration.differences(now, before, where)
    ]


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _key(specification: Any, data: dict[str, str]) -> str | None:
    try:
        return identity.key_of(specification, list(data.values()))
    except (UserError, LookupError, TypeError, ValueError):  # a record of another version, or a damaged one
        return None


def _packed(study: Study, folder: Path, scale: int, train: tuple[str, ...]) -> dict[str, str] | None:
    """Return the datasets of the runs at a scale that train on these, name -> fingerprint; None if one is missing."""
    data = {}
    for text in [*train, *study.data.validation]:
        name, part = parse_selection(text)
        place = folder / layout.packed(name, scale)
        try:
            if not (place / layout.INDEX).is_file():
                return None
            data[text] = open_pairs(place, scale).select(part).fingerprint
        except UserError:
            return None
    return data


# --- What remains ----------------------------------------------------------------------------------------------------


def _expect(statuses: list[Status], plan: dict[str, float]) -> None:
    """Fill in `remaining`: the run's own rate knows its device best, then the plan, then runs of the same scale."""
    rates: dict[int, list[float]] = {}
    for status in statuses:
        if status.seconds_per_iteration is not None:
            rates.setdefault(status.run.scale, []).append(status.seconds_per_iteration)
    for status in statuses:
        others = rates.get(status.run.scale, [])
        sources = {
            "own rate": status.seconds_per_iteration,
            "plan": plan.get(status.run.folder),
            "other runs": sum(others) / len(others) if others else None,
        }
        source, rate = next(((name, rate) for name, rate in sources.items() if rate is not None), ("", None))
        if status.remaining_seconds is None and rate is not None:
            status.remaining_from = source
            status.remaining_seconds = max(0, status.iterations - status.iteration) * rate


def _plan(study: Study, folder: Path) -> tuple[dict[str, float], dict[str, Any] | None, list[str]]:
    """Return what plan.json expects: run's folder -> seconds for each iteration; its device; what is wrong with it."""
    file = folder / layout.PLAN
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
        rates = {run["folder"]: float(run["seconds_per_iteration"]) for run in plan["runs"]}
        host = plan["provenance"]
        source = {"file": str(file), "device": host.get("gpu") or f"CPU ({host.get('cpu')})"}
        departures = differences(plan["training"], study.content["training"], "training")
    except FileNotFoundError:
        return {}, None, []
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}, None, [f"{file} is not a readable plan: make it again with `safmn plan {study.where}`"]
    if departures:
        what = ", ".join(departures)
        return {}, None, [f"{file} was made for another training ({what}) and is not used: `safmn plan {study.where}`"]
    return rates, source, []


def _totals(statuses: list[Status]) -> dict[str, Any]:
    remaining = [status.remaining_seconds for status in statuses if status.remaining_seconds is not None]
    running = sum(status.state == "running" for status in statuses)
    counts = {state: sum(status.state == state for status in statuses) for state in STATES}
    return {
        "runs": len(statuses),
        "states": {state: count for state, count in counts.items() if count},
        "iteration": sum(s.iterations if s.state == "collapsed" else s.iteration for s in statuses),
        "iterations": sum(status.iterations for status in statuses),
        "seconds": round(sum(status.seconds for status in statuses), 3),
        "remaining_seconds": sum(remaining),
        "remaining_unknown_runs": len(statuses) - len(remaining),
        "remaining_wall_clock_seconds": makespan(remaining, running),
        "side_by_side": max(1, running),
    }


# --- The study as a whole --------------------------------------------------------------------------------------------


def _other_settings(study: Study, folder: Path) -> list[str]:
    """Return a remark if Snakemake ran the study with other settings than the file that is looked at."""
    file = folder / layout.STUDY
    try:
        departures = differences(Study.load(file).content, study.content)
    except UserError:  # there is none, or one of another version, which the next run of Snakemake replaces
        return []
    more = f" and {len(departures) - 3} more" if len(departures) > 3 else ""
    text = f"{file}, which the jobs read, has other settings ({', '.join(departures[:3])}{more}): give that file"
    return [text] if departures else []


def _stages(study: Study, folder: Path) -> dict[str, list[int]]:
    """Return stage -> [files present, files in all]; training is told run by run."""
    tests = {benchmark.stem for benchmark in benchmarks(study)}
    names = study.counted
    times = [layout.cost("runtime"), layout.cost("operations")]
    if study.efficiency.reason_untimed:  # only a GPU's are expected, and nothing tells here whether there is one
        times = [file for file in times if (folder / file).is_file()]
    expected = {
        layout.DATA: [f"{layout.packed(*dataset)}/{layout.INDEX}" for dataset in study.packed_datasets()],
        "quality": [
            layout.scores(run.variant, run.scale, layout.trained(run.seed, which), name)
            for run in study.runs()
            for which in ("best", "last")
            for name in tests
        ],
        "cost": [*map(layout.complexity, names), layout.cost("memory"), *times],
        "tables": [layout.table(number, form) for number in range(1, 6) for form in layout.FORMS],
    }
    return {stage: [sum((folder / file).is_file() for file in files), len(files)] for stage, files in expected.items()}


def _time(file: Path) -> float:
    """Return when a file was changed, in seconds since the epoch; 0 if there is none."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
