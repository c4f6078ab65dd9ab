"""How far a study is, run by run, from the files that are there. Changes nothing and waits for nobody."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safmn import layout
from safmn.data.sources import parse_selection
from safmn.errors import UserError
from safmn.planning.locks import holder
from safmn.planning.staleness import Today, changes, differences
from safmn.planning.wallclock import makespan
from safmn.report.measured import Absent, Results, first_line
from safmn.study import Run, Study
from safmn.training import state as states

STATES = ("done", "collapsed", "running", "interrupted", "failed", "stale", "not started", "unreadable")
FINAL = (*map(layout.weights_file, layout.WEIGHTS), layout.HISTORY)
PROGRESS = re.compile(rb": (\d+)/\d+  ([0-9.]+) it/s")
_OF = "specification, code or data"
TAIL = 4096  # bytes of a log that are looked at


@dataclass
class Status:
    """How far one run is.

    Attributes:
        run: which.
        state: one of STATES.
        iteration: iterations done that count, of `iterations`.
        seconds: spent by the sessions that led there, as far as they were saved; a running one's until now.
        seconds_per_iteration: its own, None if it made none.
        remaining_seconds: expected until it is done, None if nothing tells.
        remaining_from: what tells: "own rate", "plan", "other runs", or "".
        remarks: whatever else there is to say.
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
        """As plain data."""
        plain = asdict(self)
        return {"folder": self.run.folder, **plain.pop("run"), **plain, "seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class Saved:
    """The newest sound state of a run.

    Attributes:
        iteration: iterations done.
        key: what it belongs to.
        sessions: of the processes that led there.
        when: it was saved, in seconds since the epoch.
    """

    iteration: int
    key: str
    sessions: list[Any]
    when: float


def look(
    study: Study, folder: Path, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """The status of a study as plain data; times in seconds.

    Args:
        folder: `results/<study>`.
        on_progress: called with (runs looked at, runs in all).

    Returns:
        `runs`, `totals`, `stages` (stage -> [files there, files in all]), `plan` (device and file that expectations
        are from, or None) and `remarks`.
    """
    remarks = _other_study(study, folder)
    expected, plan, trouble = _plan(study, folder)
    today = Today(study, folder)
    runs = study.runs()
    found = []
    for run in runs:
        found.append(_guarded(study, run, folder, today))
        on_progress(len(found), len(runs))
    _expect(found, expected)
    return {
        "study": study.name,
        "folder": str(folder),
        "runs": [each.record() for each in found],
        "totals": _totals(found),
        "stages": _stages(study, folder),
        "plan": plan,
        "remarks": remarks + trouble,
    }


# --- one run ---


def _guarded(study: Study, run: Run, folder: Path, today: Today) -> Status:
    try:
        return _status(study, run, folder, today)
    except (OSError, UserError) as error:
        iterations = study.specification(run)["training"]["iterations"]
        return Status(run, "unreadable", iterations, remarks=[" ".join(str(error).split())])


def _status(study: Study, run: Run, folder: Path, today: Today) -> Status:
    place = _place(folder, run)
    status = Status(run, "not started", study.specification(run)["training"]["iterations"])
    record = Results(folder).record(run)
    failure = first_line(place / layout.FAILURE)
    process = holder(place, study.run.save_every)
    stale: list[str] | None = []
    if isinstance(record, Absent):
        status.remarks += [record.reason] if record.reason else []
    else:
        stale = changes(today, run, record, _when(place / layout.RUN))
        if not process and not stale and _is_complete(place, status):
            _finished(status, record)
            if stale is None:
                status.remarks.append("its packed data is not here, so whether code or data changed is not known")
            return status
    saved = _newest(place / layout.STATE, status.remarks)
    outdated = saved is not None and today.key(run) not in (None, saved.key)
    if saved is not None and not outdated:
        status.iteration, status.seconds, status.seconds_per_iteration = saved.iteration, *_spent(saved.sessions)
    if process:
        status.state = "running"
        where = f"on {process.machine}, last sign {process.seen:.0f} s ago" if process.machine else ""
        status.remarks.append(f"process {process.pid} {where}".strip())
        _go_on(status, run, folder, saved)
    elif failure and (saved is None or _when(place / layout.FAILURE) >= saved.when):
        status.state = "failed"
        status.remarks.insert(0, failure)
    elif stale or outdated:
        old = record.get("sessions") if stale else saved.sessions
        what = "; ".join(stale) if stale else f"its state at iteration {saved.iteration} belongs to another {_OF}"
        status.state, status.iteration = "stale", 0
        status.seconds, status.seconds_per_iteration = _spent(old)  # it was spent, even if it has to be spent again
        if not stale or not _trains_alike(record, study.specification(run)):
            status.seconds_per_iteration = None
        status.remarks.insert(0, what)
    elif saved is not None:
        status.state = "interrupted"
    return status


def _is_complete(place: Path, status: Status) -> bool:
    missing = [name for name in FINAL if not (place / name).exists()]
    if missing:
        status.remarks.append(f"{', '.join(missing)} is missing: training again writes it from the saved state")
    return not missing


def _finished(status: Status, record: dict[str, Any]) -> None:
    collapse = record.get("collapse")
    status.state = "collapsed" if record.get("outcome") == "collapsed" else "done"
    status.iteration = status.iterations
    status.seconds, status.seconds_per_iteration = _spent(record.get("sessions"))
    status.remaining_seconds = 0.0
    if status.state == "collapsed" and isinstance(collapse, dict):
        status.iteration = min(status.iterations, int(_number(collapse.get("iteration"))))
        status.remarks.append(f"{collapse.get('reason', 'no reason kept')}, at iteration {status.iteration}")


def _trains_alike(record: dict[str, Any], specification: dict[str, Any]) -> bool:
    """Whether a finished run tells the pace of the one that takes its place: only data or code changed."""
    had = record.get("specification")
    return isinstance(had, dict) and all(had.get(key) == specification[key] for key in ("training", "switches"))


def _newest(folder: Path, remarks: list[str]) -> Saved | None:
    """The newest sound state, without setting anything aside."""
    for file in sorted(folder.glob("iteration-*.state"), reverse=True):
        try:
            when = file.stat().st_mtime
            saved = states.read(file)
        except FileNotFoundError:  # replaced meanwhile
            continue
        except UserError as error:
            remarks.append(str(error))
            continue
        if saved is not None:
            return Saved(saved["iteration"], saved["key"], saved["content"].get("sessions") or [], when)
        if file.exists():
            remarks.append(f"{file.name} is damaged: the state before it will be used")
    return None


def _go_on(status: Status, run: Run, folder: Path, saved: Saved | None) -> None:
    """What a running process did since its last saved state: its log is fresher."""
    began = _when(_place(folder, run) / layout.STATE / states.OWNER)
    since = max(began, saved.when if saved and status.iteration else 0.0)
    status.seconds += max(0.0, time.time() - since) if since else 0.0
    log = folder / layout.run_log("train", run.variant, run.scale, run.seed)
    try:
        if log.stat().st_mtime < began:
            return
        with open(log, "rb") as handle:
            handle.seek(max(0, log.stat().st_size - TAIL))
            lines = PROGRESS.findall(handle.read())
    except OSError:
        return
    if lines:
        iteration, rate = int(lines[-1][0]), float(lines[-1][1])
        status.iteration = max(status.iteration, min(iteration, status.iterations))
        status.seconds_per_iteration = 1 / rate if rate else status.seconds_per_iteration


def _spent(sessions: Any) -> tuple[float, float | None]:
    """(seconds in all, seconds for each iteration of the last one) of the sessions that a record or state holds."""
    seconds, rate = 0.0, None
    for each in sessions if isinstance(sessions, list) else []:
        if isinstance(each, dict):
            spent, made = _number(each.get("seconds")), _number(each.get("to")) - _number(each.get("from"))
            seconds += spent
            rate = spent / made if made > 0 and spent > 0 else rate
    return seconds, rate


# --- what is still to be expected ---


def _expect(found: list[Status], plan: dict[str, float]) -> None:
    """Fills in `remaining`: the run's own rate knows its device best, then the plan, then runs of the same scale."""
    rates: dict[int, list[float]] = {}
    for each in found:
        if each.seconds_per_iteration is not None:
            rates.setdefault(each.run.scale, []).append(each.seconds_per_iteration)
    for each in found:
        if each.remaining_seconds is not None:
            continue
        others = rates.get(each.run.scale, [])
        if each.seconds_per_iteration is not None:
            rate, each.remaining_from = each.seconds_per_iteration, "own rate"
        elif each.run.folder in plan:
            rate, each.remaining_from = plan[each.run.folder], "plan"
        elif others:
            rate, each.remaining_from = sum(others) / len(others), "other runs"
        else:
            continue
        each.remaining_seconds = max(0, each.iterations - each.iteration) * rate


def _plan(study: Study, folder: Path) -> tuple[dict[str, float], dict[str, Any] | None, list[str]]:
    """Run's folder -> seconds for each iteration, as plan.json expects; what it was made on; what is wrong with it."""
    file = folder / layout.PLAN
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
        rates = {each["folder"]: float(each["seconds_per_iteration"]) for each in plan["runs"]}
        made = {"file": str(file), "device": plan["provenance"].get("gpu") or f"CPU ({plan['provenance'].get('cpu')})"}
        departures = differences(plan["training"], study.content["training"], "training")
    except FileNotFoundError:
        return {}, None, []
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}, None, [f"{file} is not a readable plan: make it again with `safmn plan {study.where}`"]
    if departures:
        what = ", ".join(departures)
        return {}, None, [f"{file} was made for another training ({what}) and is not used: `safmn plan {study.where}`"]
    return rates, made, []


def _totals(found: list[Status]) -> dict[str, Any]:
    known = [each.remaining_seconds for each in found if each.remaining_seconds is not None]
    running = sum(each.state == "running" for each in found)
    return {
        "runs": len(found),
        "states": {state: count for state in STATES if (count := sum(each.state == state for each in found))},
        "iteration": sum(each.iterations if each.state == "collapsed" else each.iteration for each in found),
        "iterations": sum(each.iterations for each in found),
        "seconds": round(sum(each.seconds for each in found), 3),
        "remaining_seconds": sum(known),
        "remaining_unknown_runs": len(found) - len(known),
        "remaining_wall_clock_seconds": makespan(known, running),
        "side_by_side": max(1, running),
    }


# --- the study as a whole ---


def _other_study(study: Study, folder: Path) -> list[str]:
    """A remark where Snakemake ran the study with other settings than the file that is looked at."""
    file = folder / layout.STUDY
    try:
        departures = differences(Study.load(file).content, study.content)
    except UserError:  # none there, or one of another version, which the next run of Snakemake replaces
        return []
    if not departures:
        return []
    more = f" and {len(departures) - 3} more" if len(departures) > 3 else ""
    return [f"{file}, which the jobs read, has other settings ({', '.join(departures[:3])}{more}): give that file"]


def _stages(study: Study, folder: Path) -> dict[str, list[int]]:
    """Stage -> [files that are there, files in all]; training is told run by run."""
    tests = {parse_selection(text)[0] for text in study.data.test}
    names = dict.fromkeys([*study.variants, *study.networks])
    wanted = {
        layout.DATA: [f"{layout.packed(*each)}/{layout.INDEX}" for each in study.packed_datasets()],
        "quality": [
            layout.scores(run.variant, run.scale, layout.trained(run.seed, which), name)
            for run in study.runs()
            for which in ("best", "last")
            for name in tests
        ],
        "cost": [
            *map(layout.complexity, names),
            *map(layout.cost, ("memory", "runtime", "operations")),
        ],
        "tables": [layout.table(number, form) for number in range(1, 6) for form in layout.FORMS],
    }
    return {stage: [sum((folder / file).is_file() for file in files), len(files)] for stage, files in wanted.items()}


def _place(folder: Path, run: Run) -> Path:
    return folder / layout.run(run.variant, run.scale, run.seed)


def _when(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
