"""The benchmarks run, small, and what they compare gives the same; their times are nobody's business here."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_two_training_steps_learn_the_same():
    size = ["--batch", "2", "--patch", "32", "--threads", "1"]
    printed = run("train_step.py", *size, "--blocks", "2", "--steps", "1", "--follow", "3")
    double = next(line for line in printed.splitlines() if "float64" in line)
    assert float(double.split("float64")[1].split()[0]) < 1e-12
    assert "reference / ours: median" in printed


def test_the_two_ways_of_evaluating_give_the_same_figures(datasets):
    printed = run("evaluation.py", "--data", str(datasets / "Set5"), "--images", "2", "--rounds", "1", "--threads", "1")
    assert "evaluation: " in printed
    assert "metrics alone: " in printed
