"""`safmn gpu-check`: its parts in order, each in a process of its own, kept in files of their own; then what follows.

A finished part is not repeated for the same device, torch and code, so the check may be killed at any time. A part that
fails, hangs or crashes loses no other.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from safmn import files, provenance
from safmn.errors import UserError
from safmn.planning.wallclock import with_days
from safmn.schema import Training
from safmn.study import Study

Record = dict[str, Any]
STUDIES = ("t291", "paper")
USUAL, *OTHERS = get_args(Training.model_fields["form"].annotation)
FORMS = (USUAL, *OTHERS, "bf16")
GAIN = 0.03  # of the step's time; a smaller one is no reason for other bits
SHARED_GAIN = 0.05  # of the steps a second; likewise for jobs that share a device


@dataclass(frozen=True)
class Part:
    """One part of the check.

    Attributes:
        name: of its file, and for `--parts`.
        title: what it does.
        limit: seconds after which its process is ended, on a GPU; ten times as many on a CPU.
        request: what its process is asked, see `safmn.planning.gpu_parts`.
        advised: whether it runs in the form that the parts before it recommend.
    """

    name: str
    title: str
    limit: float
    request: Record = field(default_factory=dict)
    advised: bool = False


PARTS = (
    Part("equality", "equal to the CPU in float64", 180),
    Part("graph", "eager, CUDA graph and resumed: the same bits", 90),
    Part("determinism", "trained twice: the same bits", 120),
    *(Part(f"step-{form}", f"training step: {form}", 300, {"part": "step", "form": form}) for form in FORMS),
    Part("profile", "the ten dearest kernels of the step", 60),
    Part("floor", "bytes, products and launches of the step", 60),
    Part("sharing", "several jobs on the device", 120, advised=True),
    Part("memory", "memory of inference, predicted and measured", 90),
    Part("memory-training", "memory of the step, predicted and measured", 60),
    *(
        Part(f"hours-{study}", f"hours of {study}", 180, {"part": "hours", "study": study}, advised=True)
        for study in STUDIES
    ),
    Part("tests", "the tests marked gpu", 180),
    Part("table2", "Table 2: time of inference", 180),
    Part("table5", "Table 5: time of SAFMN's operations", 60),
)
"""In the order of their worth, since time may run out."""


def chosen(names: Sequence[str] | None) -> list[Part]:
    """Return the parts of these names, all for None; UserError for an unknown one."""
    known = {part.name: part for part in PARTS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UserError(f"--parts: there is no part {unknown[0]!r}: take from {', '.join(known)}")
    return list(PARTS) if names is None else [known[name] for name in names]


def identity(device: Record) -> Record:
    """Return what a finished part is valid for: device, driver, torch and code."""
    kept = {key: device.get(key) for key in ("device", "gpu", "cpu", "driver", "torch", "cuda")}
    return kept | {"code_sha256": provenance.code()["code_sha256"]}


def describe(kind: str) -> Record:
    """Describe the device in a process of its own, so that this one does not use it; UserError if that fails."""
    command = [sys.executable, "-m", "safmn.planning.gpu_parts"]
    asked = json.dumps({"part": "describe", "device": kind}) + "\n"
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"the device cannot be used ({last[:200]}): `safmn doctor` says more")
    found: Record = json.loads(done.stdout.strip().splitlines()[-1])["device"]
    return found


def kept(out: Path, whose: Record) -> dict[str, Record]:
    """Return the records of all parts that are finished."""
    found = {part.name: finished(out, part, whose) for part in PARTS}
    return {name: record for name, record in found.items() if record is not None}


def finished(out: Path, part: Part, whose: Record) -> Record | None:
    """Return the record of a part that need not run again; None if it must."""
    try:
        record: Record = files.read_json(out / "parts" / f"{part.name}.json")
    except UserError:
        return None
    is_over = record.get("status") in ("done", "needs a GPU") and record.get("identity") == whose
    return record if is_over else None


def run(
    out: Path,
    kind: str,
    whose: Record,
    parts: Sequence[Part],
    minutes: float,
    again: bool = False,
    note: Callable[[Part, Record, bool], None] = lambda part, record, kept: None,
) -> dict[str, Record]:
    """Run the parts that are not finished; return name -> record of all that are there.

    Args:
        out: the folder of the check.
        kind: "cuda" or "cpu".
        whose: from `identity`.
        parts: in order.
        minutes: no part begins after so many.
        again: whether to repeat what is finished.
        note: called after each part, with whether its record was there before.
    """
    began = time.monotonic()
    records: dict[str, Record] = {}
    for part in parts:
        record = None if again else finished(out, part, whose)
        advice: Record = recommend(kept(out, whose) | records) if part.advised else {}
        asked: Record = {**part.request, **{key: advice[key] for key in ("form", "graph") if key in advice}}
        if record is not None and part.advised and record.get("asked") != asked:
            record = None  # it ran in a form that is no longer the recommended one
        is_old = record is not None
        if record is None:
            if time.monotonic() - began > 60 * minutes:
                continue
            record = _of(part, out, kind, asked)
            record = {"part": part.name, "title": part.title, "identity": whose, "asked": asked, **record}
            try:
                files.write_json(out / "parts" / f"{part.name}.json", record)
            except UserError as error:  # a full disk; what follows can still be shown
                record["summary"] += f" (not kept: {error})"
        records[part.name] = record
        note(part, record, is_old)
    return records


def _of(part: Part, out: Path, kind: str, request: Record) -> Record:
    """Run one part in a process of its own; what it printed is kept in a log beside its record."""
    asked = json.dumps({"part": part.name, "device": kind, **request})
    limit = part.limit * (1 if kind == "cuda" else 10)
    log = out / "parts" / f"{part.name}.log"
    command = [sys.executable, "-m", "safmn.planning.gpu_parts"]
    began = time.monotonic()
    pipe = subprocess.PIPE
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        errors = open(log, "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot write {log} ({error.strerror}): choose another folder with --out") from error
    with errors:
        # A session of its own: what a part starts, such as tests, ends with it and does not disturb the next one.
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=dict(os.environ), start_new_session=True
        )
        try:
            said, _ = process.communicate(asked + "\n", timeout=limit)
        except subprocess.TimeoutExpired:
            said = ""
            reason = f"ended after {limit:g} s"
        else:
            reason = f"ended with status {process.returncode}"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = round(time.monotonic() - began, 1)
    lines = said.strip().splitlines()
    if process.returncode == 0 and lines:
        found: Record = json.loads(lines[-1], parse_constant=str)
        return {"seconds": seconds, **found}
    last = (log.read_text(encoding="utf-8").strip().splitlines() or ["no message"])[-1]
    summary = f"its process {reason}: {last[:200]} (see {log.name})"
    return {"seconds": seconds, "status": "failed", "passed": False, "summary": summary}


# --- What follows ----------------------------------------------------------------------------------------------------


def recommend(records: dict[str, Record]) -> Record:
    """Return `form`, `graph` (whether to record the step), `jobs` and `why`, a sentence for each.

    Another form is recommended only if it learns the same and takes less time by GAIN in every turn, so that a busy
    device recommends nothing; a CUDA graph only if it gave the same bits. bf16 is not: it computes something else than
    the paper.
    """
    timed: dict[tuple[str, bool], Record] = {}  # (form, whether it is recorded) -> its times
    for form in FORMS:
        record = records.get(f"step-{form}", {})
        if form != "bf16" and record.get("status") == "done" and record["passed"]:
            ways = {
                (form, False): record["times"].get(form, {}),
                (form, True): record["times"].get(f"{form}, graph", {}),
            }
            timed |= {way: times for way, times in ways.items() if "ms" in times}
    is_safe = records.get("graph", {}).get("passed") is True
    allowed = {way: times["times_usual"] for way, times in timed.items() if is_safe or not way[1]}
    best = min(allowed, key=lambda way: allowed[way], default=(USUAL, False))
    base = min((way for way in allowed if way[0] == USUAL), key=lambda way: allowed[way], default=(USUAL, False))
    if best[0] != USUAL and timed[best]["times_usual_at_most"] > (1 - GAIN) * allowed.get(base, 1.0):
        best = base  # it was not surely faster in the turn that was worst for it
    form, recorded = best
    why = []
    if form != USUAL:
        why.append(f"training.form: {form} takes {allowed[best]:.2f} of the usual step's time; it gives other bits")
    elif len(timed) > 1:
        why.append("training.form: usual; no other form that learns the same is faster by 3 %")
    if recorded:
        why.append(f"run.cuda_graph: true takes {allowed[best]:.2f} of the usual eager step, with the same bits")
    elif any(way[1] for way in timed):
        why.append("run.cuda_graph: false" + ("" if is_safe else "; the graph did not give the same bits"))
    rates = records.get("sharing", {}).get("rates", {})
    steps = {int(count): each["steps_a_second"] for count, each in rates.items() if "steps_a_second" in each}
    jobs = max(steps, key=lambda count: steps[count], default=1)
    if steps and steps[jobs] < (1 + SHARED_GAIN) * steps[1]:
        jobs = 1
    if steps:
        gain = steps[jobs] / steps[1] - 1
        why.append(f"run.jobs_per_device: {jobs}" + (f", {gain:.0%} more steps a second than one" if jobs > 1 else ""))
    return {"form": form, "graph": recorded, "jobs": jobs, "gain": steps[jobs] / steps[1] if steps else 1.0, "why": why}


def expected(records: dict[str, Record], advice: Record) -> dict[str, str]:
    """Return study -> the expected hours in words, from its plan, or else from the measured step alone."""
    told = {}
    for study in STUDIES:
        planned = records.get(f"hours-{study}", {})
        if planned.get("status") == "done":
            hours = planned["totals"]["seconds"]
            shared = f"; {with_days(hours / advice['gain'])} with {advice['jobs']} jobs at a time"
            told[study] = with_days(hours) + " of this device, one job at a time" + shared * (advice["jobs"] > 1)
            continue
        step = records.get(f"step-{USUAL}", {})
        if step.get("status") != "done":
            told[study] = f"not known: neither hours-{study} nor step-{USUAL} finished"
            continue
        of_study = Study.load(study)
        iterations = sum(of_study.training_of(each.variant).iterations for each in of_study.runs())
        batch, measured = of_study.training.batch if of_study.training else 1, step["settings"]["batch"]
        seconds = iterations * step["times"][USUAL]["ms"] / 1e3 * batch / measured
        told[study] = f"about {with_days(seconds)}: {iterations:,} steps as long as the baseline's"
        told[study] += f", scaled from {measured} to {batch} patches" * (batch != measured)
    return told


def report(records: dict[str, Record], device: Record) -> str:
    """Return the page that ends a check, in Markdown."""
    where = device.get("gpu") or f"{device['cpu']}, {device['threads']} threads"
    built = f"CUDA {device['cuda']}, driver {device.get('driver', 'unknown')}" if device.get("cuda") else "CPU"
    lines = [
        f"# {where}, torch {device['torch']} ({built})",
        "",
        "| part | result | seconds | found |",
        "|---|---|---|---|",
    ]
    for part in PARTS:
        record = records.get(part.name)
        cells = (verdict(record), f"{record['seconds']:.0f}", record["summary"]) if record else ("not run", "", "")
        lines.append(f"| {part.name} | {' | '.join(cells).replace(chr(10), ' ')} |")
    dearest = records.get("profile", {}).get("dearest", [])
    lines += ["", "| dearest | ms a step | calls | share |", "|---|---|---|---|"] if dearest else []
    for row in dearest:
        name = row["name"].replace("|", "/")
        lines.append(f"| `{name}` | {row['ms']:.2f} | {row['calls']:.0f} | {row['share']:.0%} |")
    advice = recommend(records)
    lines += ["", "## Recommended", "", *(f"- {why}" for why in advice["why"] or ["nothing: no step was timed"])]
    lines += ["", "## Expected", "", *(f"- {study}: {hours}" for study, hours in expected(records, advice).items())]
    return "\n".join(lines) + "\n"


def verdict(record: Record) -> str:
    """Return "ok", "NOT OK", "failed" or "needs a GPU"."""
    if record["status"] != "done":
        return str(record["status"])
    return "ok" if record["passed"] else "NOT OK"


def is_good(records: dict[str, Record]) -> bool:
    """Say whether every part that ran passed."""
    return all(record["passed"] is not False for record in records.values())
