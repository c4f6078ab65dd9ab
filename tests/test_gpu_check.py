"""`safmn gpu-check`: parts that fail, hang or are killed; what follows from figures. Its processes are stand-ins here.

The figures in these tests are made up, to see what is concluded from them.
"""

import json
import time
from pathlib import Path

import pytest

from safmn import cli
from safmn.errors import UserError
from safmn.planning import gpu_check
from safmn.planning.gpu_check import Part, Record

WHOSE = {"device": "cpu", "torch": "2.13.0"}
GOOD = '{"status": "done", "passed": true, "summary": "fine"}'


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program in place of the parts' Python: it writes down what it was asked, and does as its part says."""
    calls = tmp_path / "calls"

    def put(**parts: str) -> Path:
        script = tmp_path / "python"
        cases = "\n".join(f'*\'"part": "{name}"\'*) {does} ;;' for name, does in parts.items())
        script.write_text(f'#!/bin/sh\nread asked\necho "$asked" >>{calls}\ncase "$asked" in\n{cases}\nesac\n')
        script.chmod(0o755)
        monkeypatch.setattr(gpu_check.sys, "executable", str(script))
        return calls

    return put


def asked(calls: Path) -> list[str]:
    return [json.loads(line)["part"] for line in calls.read_text().splitlines()]


def test_a_part_that_fails_or_hangs_loses_no_other(stand_in, tmp_path: Path) -> None:
    calls = stand_in(
        first=f"echo noise; echo '{GOOD}'",
        crashes="echo sorry >&2; exit 7",
        hangs="exec sleep 30",
        last=f"echo '{GOOD}'",
    )
    parts = [Part(name, "", 1.0) for name in ("first", "crashes", "hangs", "last")]
    records = gpu_check.run(tmp_path, "cuda", WHOSE, parts, 5)
    assert [record["status"] for record in records.values()] == ["done", "failed", "failed", "done"]
    assert records["crashes"]["summary"] == "its process ended with status 7: sorry (see crashes.log)"
    assert records["hangs"]["summary"].startswith("its process ended after 1 s")
    assert not gpu_check.is_good(records)
    again = gpu_check.run(tmp_path, "cuda", WHOSE, parts, 5)
    assert asked(calls)[4:] == ["crashes", "hangs"]  # what was done is kept
    assert again["first"] == records["first"]


def test_nothing_that_a_part_started_goes_on_after_it(stand_in, tmp_path: Path) -> None:
    stand_in(hangs=f"sleep 60 & echo $! >{tmp_path}/started; wait")
    assert gpu_check.run(tmp_path, "cuda", WHOSE, [Part("hangs", "", 1.0)], 5)["hangs"]["status"] == "failed"
    status = Path(f"/proc/{int((tmp_path / 'started').read_text())}/stat")
    deadline = time.monotonic() + 10
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_disk_that_is_full_loses_no_part(stand_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(a=f"echo '{GOOD}'", b=f"echo '{GOOD}'")

    def full(path: Path, value: object) -> None:
        raise UserError(f"cannot write {path}: No space left on device; free some space or choose another place")

    monkeypatch.setattr(gpu_check.files, "write_json", full)
    records = gpu_check.run(tmp_path, "cuda", WHOSE, [Part(name, "", 5.0) for name in "ab"], 5)
    assert asked(calls) == ["a", "b"]
    assert [record["status"] for record in records.values()] == ["done", "done"]
    assert all("fine (not kept: cannot write" in record["summary"] for record in records.values())


def test_a_folder_that_cannot_be_made_is_one_line(stand_in, tmp_path: Path) -> None:
    stand_in(a=f"echo '{GOOD}'")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*: choose another folder with --out"):
        gpu_check.run(tmp_path / "file", "cuda", WHOSE, [Part("a", "", 5.0)], 5)


def test_a_check_that_is_killed_twice_goes_on_where_it_was(stand_in, tmp_path: Path) -> None:
    calls = stand_in(**dict.fromkeys("abcd", f"echo '{GOOD}'"))
    parts = [Part(name, "", 5.0) for name in "abcd"]

    def killed(part: Part, record: Record, is_old: bool) -> None:
        if not is_old:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            gpu_check.run(tmp_path, "cuda", WHOSE, parts, 5, note=killed)
    records = gpu_check.run(tmp_path, "cuda", WHOSE, parts, 5)
    assert asked(calls) == list("abcd")
    assert list(records) == list("abcd")
    gpu_check.run(tmp_path, "cuda", WHOSE, parts[:1], 5, again=True)
    assert asked(calls) == list("abcda")
    gpu_check.run(tmp_path, "cuda", WHOSE | {"torch": "2.11.0"}, parts[1:2], 5)  # another torch, another figure
    assert asked(calls) == list("abcdab")


def test_a_part_in_the_recommended_form_runs_again_in_another_one(stand_in, tmp_path: Path, monkeypatch) -> None:
    calls = stand_in(a=f"echo '{GOOD}'")
    parts = [Part("a", "", 5.0, advised=True)]
    for form, runs in (("usual", 1), ("usual", 1), ("contiguous", 2), ("contiguous", 2)):
        advised = {"form": form, "graph": False, "jobs": 1, "gain": 1.0, "why": []}
        monkeypatch.setattr(gpu_check, "recommend", lambda _, advised=advised: advised)
        with monkeypatch.context() as patched:
            patched.setattr(gpu_check, "PARTS", parts)
            gpu_check.run(tmp_path, "cuda", WHOSE, parts, 5)
        assert len(asked(calls)) == runs


def test_no_part_begins_when_the_time_is_over(stand_in, tmp_path: Path) -> None:
    calls = stand_in(a=f"echo '{GOOD}'")
    assert gpu_check.run(tmp_path, "cuda", WHOSE, [Part("a", "", 5.0)], -1) == {}
    assert not calls.exists()


def test_a_half_written_record_is_not_believed(stand_in, tmp_path: Path) -> None:
    stand_in(a=f"echo '{GOOD}'")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.json").write_text('{"status": "do')
    assert gpu_check.run(tmp_path, "cuda", WHOSE, [Part("a", "", 5.0)], 5)["a"]["status"] == "done"


def timed(form: str, eager: float, graph: float | None = None, passed: bool = True, spread: float = 0.01) -> Record:
    times = {form: {"ms": 20 * eager, "times_usual": eager, "times_usual_at_most": eager + spread}}
    if graph is not None:
        times[f"{form}, graph"] = {"ms": 20 * graph, "times_usual": graph, "times_usual_at_most": graph + spread}
    return {"status": "done", "passed": passed, "times": times, "settings": {"batch": 64}}


def advice(bits: bool = True, rates: tuple[float, ...] = (), **steps: Record) -> tuple[str, bool, int]:
    records = {f"step-{form}": record for form, record in steps.items()}
    records["graph"] = {"status": "done", "passed": bits}
    records["sharing"] = {"rates": {str(n): {"steps_a_second": rate} for n, rate in enumerate(rates, 1)}}
    found = gpu_check.recommend(records)
    return found["form"], found["graph"], found["jobs"]


def test_what_is_recommended() -> None:
    usual = timed("usual", 1.0, 0.8)
    assert advice(usual=usual) == ("usual", True, 1)
    assert advice(bits=False, usual=usual) == ("usual", False, 1)  # a graph with other bits is none
    assert advice(usual=usual, contiguous=timed("contiguous", 0.7, 0.6)) == ("contiguous", True, 1)
    assert advice(usual=usual, contiguous=timed("contiguous", 0.9, 0.79)) == ("usual", True, 1)  # gains less than 3 %
    scattered = timed("contiguous", 0.7, 0.6, spread=0.3)
    assert advice(usual=usual, contiguous=scattered) == ("usual", True, 1)  # the device was busy
    assert advice(usual=usual, contiguous=timed("contiguous", 0.5, 0.4, passed=False)) == ("usual", True, 1)
    assert advice(usual=usual, bf16=timed("bf16", 0.3, 0.2)) == ("usual", True, 1)  # computes something else
    assert advice(usual=usual, rates=(50.0, 70.0, 75.0, 71.0)) == ("usual", True, 3)
    assert advice(usual=usual, rates=(50.0, 51.0)) == ("usual", True, 1)
    assert advice() == ("usual", False, 1)


def test_hours_come_from_a_plan_or_else_from_the_step() -> None:
    records = {"step-usual": timed("usual", 1.0), "hours-t291": {"status": "done", "totals": {"seconds": 36_000.0}}}
    told = gpu_check.expected(records, {"jobs": 2, "gain": 2.0})
    assert told["t291"] == "10.0 h of this device, one job at a time; 5.0 h with 2 jobs at a time"
    # 20 ms a step, 27 runs of 500,000 iterations
    assert told["paper"].startswith("about 75.0 h: 13,500,000 steps")
    assert "not known" in gpu_check.expected({}, {"jobs": 1, "gain": 1.0})["paper"]


def test_the_page_has_a_line_for_every_part() -> None:
    records = {"graph": {"status": "failed", "passed": False, "seconds": 2.0, "summary": "crashed"}}
    page = gpu_check.report(records, {"cpu": "A CPU", "threads": 2, "torch": "2.13.0"})
    lines = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [part.name for part in gpu_check.PARTS]
    assert "| graph | failed | 2 | crashed |" in lines


def test_a_wrong_part_is_a_mistake_that_lists_all(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["gpu-check", "--device", "cpu", "--parts", "grpah"]) == 2
    assert "no part 'grpah': take from equality, graph" in capsys.readouterr().err
    with pytest.raises(UserError):
        gpu_check.chosen(["nothing"])
