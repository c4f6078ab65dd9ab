"""Inference time of networks (Table 2, #Avg. Time): the protocols of `safmn.cost.timing`, each run in its own process.

The interleaved protocol is repeated in fresh processes, whose medians show the spread between runs. The main result is
the ratio to SAFMN in the same process. The field's habit is a fresh process for each network.
"""

import json
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

import torch

from safmn import networks
from safmn.cost import complexity, memory, timing
from safmn.cost.timing import MIN_WARMUP, MODES, REFERENCE, Record
from safmn.device import description
from safmn.errors import UserError

AT = "at "  # begins the lines in which a timing process names the contestant that it works on

_log = logging.getLogger(__name__)


def forecast(
    names: Sequence[str],
    scale: int,
    images: int,
    rounds: int,
    processes: int,
    modes: Sequence[str],
    height: int,
    width: int,
    habit: bool,
    device: str | None,
) -> float:
    """Return about how many seconds `measure` takes with these arguments.

    Two passes of SAFMN are timed in a process of their own; other networks take as much longer as they have more FLOPs.
    """
    request = {"scale": scale, "images": 2, "height": height, "width": width, "device": device}
    began = time.monotonic()
    record = _child({"protocol": "habit", "name": REFERENCE, **request})["figures"]
    if record["status"] != "timed":
        return 0.0  # the measurement itself will say what is wrong
    pass_seconds = (2 * record["mean_ms"] - record["first_ms"]) / 1e3
    start = max(0.0, time.monotonic() - began - 2 * record["mean_ms"] / 1e3)
    flops = {name: complexity.measure(name, scale)["flops"] for name in {*names, REFERENCE}}
    once = {name: pass_seconds * count / flops[REFERENCE] for name, count in flops.items()}
    of_modes = len({"eager", *modes})
    warm_up_seconds = [max(MIN_WARMUP / 1e3, 2 * seconds) for seconds in once.values()]
    timing = [(images + min(rounds, images)) * seconds for seconds in once.values()]
    seconds = processes * (start + of_modes * (sum(warm_up_seconds) + sum(timing)))
    return float(seconds + habit * sum(start + images * each for each in once.values()))


def measure(
    names: Sequence[str],
    scale: int,
    images: int = 50,
    rounds: int = 5,
    processes: int = 3,
    modes: Sequence[str] = ("eager",),
    height: int = 180,
    width: int = 320,
    habit: bool = True,
    device: str | None = None,
) -> Record:
    """Run both protocols over all `names` and SAFMN, the ratio's reference; each run in a process of its own.

    Args:
        names: the networks.
        scale: 2, 3 or 4.
        images: how many images are timed, in each process.
        rounds: in how many rounds the networks take turns.
        processes: how often the interleaved protocol is repeated, each time in a fresh process.
        modes: keys of MODES beside "eager", which is always timed.
        height: LR pixels, from 8 (the paper: 180).
        width: LR pixels, from 8 (the paper: 320).
        habit: also time each network in the field's habit, in a process of its own.
        device: "cpu" or "cuda"; None takes CUDA where there is one.

    Returns:
        `provenance`, `settings`, and `networks`: name -> mode -> record. A record's `median_ms`, `mean_ms` and `iqr_ms`
        are medians over processes, `spread_percent` (of two processes or more) is (highest - lowest) / median of their
        medians, `ratio_to_safmn` the median of the processes' ratios of medians to SAFMN in the same mode, `ratios` all
        of them, and `processes` the record of each process. Mode `eager` also holds `habit`.

    Raises:
        UserError: no images, rounds or processes; an unknown network or mode; an image below 8 pixels.
    """
    for value, what in ((images, "images"), (rounds, "rounds"), (processes, "processes")):
        if value < 1:
            raise UserError(f"{value} {what} give no time: ask for 1 or more")
    for mode in modes:
        if mode not in MODES:
            raise UserError(f"mode {mode!r} is not known: choose from {', '.join(MODES)}")
    memory.check_size(height, width)
    names = list(dict.fromkeys([*names, REFERENCE]))
    for name in names:
        if scale not in networks.info(name).scales:
            networks.build(name, scale)  # raises, naming the scales that there are
    modes = list(dict.fromkeys(["eager", *modes]))
    rounds = min(rounds, images)
    size = {"scale": scale, "images": images, "height": height, "width": width}

    request = {**size, "device": device}
    interleaved = {"protocol": "interleaved", "names": names, "rounds": rounds, "modes": modes, **request}
    runs: list[Record] = []
    failed: dict[str, str] = {}
    while len(runs) < processes:
        _log.info(
            "process %d of %d: %d networks, %d images in %d rounds",
            len(runs) + 1,
            processes,
            len(names),
            images,
            rounds,
        )
        answer = _child({**interleaved, "failed": failed})
        if "failed" in answer:
            failed |= answer["failed"]
            for key, reason in answer["failed"].items():
                _log.info("%s failed (%s): again in a fresh process, without it", key, reason)
        else:
            runs.append(answer)
    habits = {}
    for name in names if habit else ():
        _log.info("one pass without warm-up: %s", name)
        answer = _child({"protocol": "habit", "name": name, **request})
        reasons = answer.get("failed", {}).values()
        habits[name] = answer.get("figures") or {"status": "unavailable", "reason": "; ".join(reasons)}
    return {
        "provenance": runs[0]["provenance"],
        "settings": {
            **size,
            "rounds": rounds,
            "processes": processes,
            "modes": modes,
            "unit": "ms an image, batch 1",
            "precision": "float32 but for mode half",
            "layout": "NCHW but for mode channels_last",
            "execution": "eager but for modes compiled and cuda_graph",
            "layer_norm": "step by step in mode eager, torch's kernel in the others",
            "reference": REFERENCE,
        },
        "networks": combine(names, modes, [run["figures"] for run in runs], habits),
    }


def combine(
    names: Sequence[str], modes: Sequence[str], runs: Sequence[dict[str, Record]], habits: dict[str, Record]
) -> dict[str, dict[str, Record]]:
    """Join the records of several processes: name -> mode -> record, as `measure` returns them."""
    joined: dict[str, dict[str, Record]] = {}
    for name in names:
        joined[name] = {
            mode: _join([run[f"{name}/{mode}"] for run in runs], [run[f"{REFERENCE}/{mode}"] for run in runs])
            for mode in modes
        }
        if name in habits:
            joined[name]["eager"]["habit"] = habits[name]
    return joined


def _join(records: list[Record], references: list[Record]) -> Record:
    for record in records:
        if record["status"] != "timed":
            return dict(record)
    medians = [record["median_ms"] for record in records]
    joined: Record = {"status": "timed"}
    for key in ("median_ms", "mean_ms", "iqr_ms"):
        joined[key] = statistics.median(record[key] for record in records)
    if len(medians) > 1:  # one process shows no spread, which is not a spread of nothing
        joined["spread_percent"] = 100.0 * (max(medians) - min(medians)) / statistics.median(medians)
    if all(reference["status"] == "timed" for reference in references):
        ratios = [median / reference["median_ms"] for median, reference in zip(medians, references, strict=True)]
        joined["ratio_to_safmn"] = statistics.median(ratios)
        joined["ratios"] = ratios
    joined["processes"] = records
    return joined


def _child(request: Record) -> Record:
    """Run a request in a process of its own: `figures` and `provenance`, or `failed`, "network/mode" -> reason."""
    request |= {"threads": torch.get_num_threads(), "parent": os.getpid()}
    command = [sys.executable, "-m", "safmn.cost.runtime"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode == 0:
        answer: Record = json.loads(lines[-1])
        return answer
    # A network that takes the process down (killed for memory, say) must be told apart from a mistake here.
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    reason = f"ended with status {done.returncode}: {last}"
    begun = [line.removeprefix(AT) for line in lines if line.startswith(AT)]
    if begun and begun[-1] != f"{REFERENCE}/eager" and begun[-1] not in request.get("failed", {}):
        return {"failed": {begun[-1]: f"its process {reason}"}}
    what = request.get("name") or ", ".join(request["names"])
    raise UserError(f"the timing process of {what} {reason}")


def end_with(parent: int, first: Callable[[], None] = lambda: None) -> None:
    """End this process once its parent is gone: the lease on the device went with the parent.

    Args:
        parent: its process number.
        first: what is done before.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        first()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _serve(request: Record) -> Record:
    end_with(request.pop("parent"))
    torch.set_num_threads(request.pop("threads"))
    protocol, device = request.pop("protocol"), description.present(request.pop("device", None))
    run: Callable[..., Record] = timing.run_habit if protocol == "habit" else timing.run_interleaved
    try:
        figures = run(**request, device=device, at=lambda key: _answer(f"{AT}{key}"))
    except timing.Failed as failure:
        return {"failed": {failure.key: failure.reason}}
    # Described afterwards, while the clocks are still those of the measurement.
    return {"provenance": description.describe(device.kind), "figures": figures}


def _answer(line: str) -> None:
    """Send a line to the parent process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    answer = _serve(json.load(sys.stdin))
    _answer(json.dumps(answer))
    if "failed" in answer:
        os._exit(0)  # an unusable device may crash the interpreter on its way out
