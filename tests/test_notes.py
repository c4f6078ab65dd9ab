"""What a command prints beside its results: notes, progress and errors, each on stderr, as much as was asked for."""

import logging
import os
import subprocess
import sys

import pytest

from safmn import progress
from safmn.cli import main
from safmn.errors import UserError, as_line


@pytest.mark.parametrize(
    ("options", "lines"), [([], ["note", "warning"]), (["-q"], ["warning"]), (["-v"], ["detail", "note", "warning"])]
)
def test_quiet_and_verbose(monkeypatch, capsys, options, lines):
    def run(args):
        log = logging.getLogger("safmn.anything")
        log.debug("detail")
        log.info("note")
        log.warning("warning")

    monkeypatch.setattr("safmn.commands.list.run", run)
    for arguments in (["list", *options], [*options, "list"]):
        assert main(arguments) == 0
        assert capsys.readouterr().err.splitlines() == lines
    logging.getLogger("safmn").info("the command has ended")
    assert capsys.readouterr().err == ""


def test_a_stream_without_unicode_gets_escapes():
    """`safmn list` prints an arrow."""
    done = subprocess.run(
        [sys.executable, "-m", "safmn", "list"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2192" in done.stdout


@pytest.mark.parametrize("words", [["--out=~/new/x.csv"], ["--out", "~/new/x.csv"]])
def test_a_tilde_that_the_shell_leaves_is_the_home(monkeypatch, tmp_path, words):
    """Bash leaves it behind `=`; a folder called `~` would be made here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = []
    monkeypatch.setattr("safmn.commands.evaluate.run", lambda args: seen.extend([*args.data, *args.out]))
    assert main(["evaluate", "--network", "bicubic", "--scale", "4", "--data", "a~/b", *words]) == 0
    assert seen == ["a~/b", f"{tmp_path}/new/x.csv"]


def test_verbose_shows_where_a_mistake_was_found(capsys):
    assert main(["resolve", "nowhere.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert main(["resolve", "nowhere.yaml", "-v"]) == 2
    *details, last = capsys.readouterr().err.splitlines()
    assert last == line
    assert any("Traceback" in text for text in details)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a file\x1b[2J\nis missing"), "a file\\x1b[2J is missing"),
        (FileNotFoundError(2, "No such file", "x.png"), "x.png: No such file; check it and its permissions"),
        (ValueError("bad value\nin detail"), "ValueError: bad value"),
        (KeyError(), "KeyError"),
        (RuntimeError("x" * 1000), "RuntimeError: " + "x" * 286),
    ],
)
def test_an_exception_is_one_line(error, line):
    assert as_line(error) == line


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "PATIENCE", 2.0)
    return now


def test_progress_in_a_log(clock, caplog):
    caplog.set_level("INFO", "safmn")
    with progress.Progress("evaluating", "images") as show:
        for done in range(1, 101):
            clock[0] += 1.0
            show(done, 100)
    # The first after two seconds, then one each half minute, and none at the end.
    assert caplog.messages == [
        f"evaluating: {done}/100  1.00 images/s  ETA 0:0{(100 - done) // 60}:{(100 - done) % 60:02d}"
        for done in (2, 32, 62, 92)
    ]


def test_progress_with_notes_reports_the_end(clock, caplog):
    caplog.set_level("INFO", "safmn")
    task = progress.Progress(unit="it", interval=5.0).task("safmn x4", start=10)
    clock[0] += 1.0
    task(20, 20, "l1 0.5")
    task.restart("again")
    clock[0] += 10.0
    task(2.5, None)
    assert caplog.messages == ["safmn x4: 20/20  10.00 it/s  ETA 0:00:00  l1 0.5", "again: 2.5  0.25 it/s"]


def test_quiet_shows_no_bars(monkeypatch):
    monkeypatch.setattr(progress.sys, "stderr", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr(progress._log, "isEnabledFor", lambda level: False)
    with progress.Progress("evaluating") as show:
        show(1, 2)
        assert show.bars is None


def test_a_mistyped_command_is_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["complexty", "safmn"])
    assert ended.value.code == 2
    assert "there is no command 'complexty': did you mean complexity" in capsys.readouterr().err
