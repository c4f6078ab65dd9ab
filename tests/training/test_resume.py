"""A run that is killed, however often and wherever, ends with the bytes of a run that is not.

Three kinds of kill. An exception that nothing catches, raised inside this process: cheap, but `finally` clauses still
run. SIGKILL that a forked process gives itself at a chosen point, such as the middle of a save. SIGKILL from outside at
a random moment. tests/README.md counts them.
"""

import itertools
import json
import random
import signal
import time
from functools import partial

import pytest
import torch

from safmn.data import draws
from safmn.training import validation
from safmn.training.capture import CapturedStep
from safmn.training.state import StateFolder
from safmn.training.step import TrainStep

from .workshop import contents, strays, until


class Killed(BaseException):
    """Not an Exception, so that no handler for errors sees it."""


def same(out, straight):
    """Byte for byte; and a look at what must be there beside the files, and what must not."""
    for name, data in contents(straight).items():
        assert (out / name).read_bytes() == data, name
    assert strays(out) == []
    record, expected = (json.loads((folder / "run.json").read_text()) for folder in (out, straight))
    for key in ("outcome", "collapse", "best", "last", "specification", "key"):
        assert record[key] == expected[key], key
    steps = [(session["from"], session["to"]) for session in record["sessions"]]
    assert steps[0][0] == 0
    assert steps[-1][1] == record["specification"]["training"]["iterations"]
    assert all(earlier[1] == later[0] for earlier, later in itertools.pairwise(steps))


# --- inside this process ---


def killed(monkeypatch, place, number, train) -> bool:
    """Whether call `number` of a function, which raises before or after what it does, ended the training."""
    owner, name, before = place
    original = getattr(owner, name)
    calls = 0

    def wrapper(*args, **kwargs):
        nonlocal calls
        calls += 1
        if before and calls == number:
            raise Killed
        result = original(*args, **kwargs)
        if calls == number:
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, wrapper)
        try:
            train()
        except Killed:
            return True
    return False


PLACES = [(TrainStep, "__call__"), (validation, "rgb_psnr"), (StateFolder, "save")]
STEP = PLACES[0]


@pytest.mark.parametrize("network", ["tiny", "batch_normed", "drawing"])
@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_inside(workshop, tmp_path, monkeypatch, network, seed):
    """Every few iterations, in the step, the validation or the save, until the run is done."""
    run = {"save_every": 0, "log_every": 7}
    workshop.train(tmp_path / "straight", network, run=run)

    def train():
        workshop.train(tmp_path / "killed", network, run=run)

    generator = random.Random(seed)
    for kills in range(200):  # noqa: B007
        place = (*generator.choice(PLACES), generator.choice([True, False]))
        if not killed(monkeypatch, place, 1 if place[0] is validation else generator.randint(1, 6), train):
            break
    assert 8 <= kills < 199
    same(tmp_path / "killed", tmp_path / "straight")


@pytest.mark.parametrize(("save_every", "iterations"), [(0, 20), (1000, 8)])
def test_every_single_iteration(workshop, tmp_path, monkeypatch, save_every, iterations):
    """A kill at each of them, one run each; without a save before it, the run starts again."""
    changes = {"iterations": iterations, "validate_every": 5, "run": {"save_every": save_every}}
    workshop.train(tmp_path / "straight", **changes)
    for number in range(1, iterations + 1):
        out = tmp_path / str(number)

        def train(out=out):
            workshop.train(out, **changes)

        assert killed(monkeypatch, (*STEP, number % 2 == 0), number, train)
        train()
        same(out, tmp_path / "straight")


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_state_costs_iterations_not_bits(workshop, tmp_path, monkeypatch, caplog, damaged):
    caplog.set_level("INFO", "safmn")
    run = {"save_every": 0}
    workshop.train(tmp_path / "straight", run=run)
    out = tmp_path / "damaged"
    assert killed(monkeypatch, (*STEP, True), 25, lambda: workshop.train(out, run=run))
    for path in sorted((out / "state").glob("iteration-*.state"))[-damaged:]:
        path.write_bytes(path.read_bytes()[:-100])
    caplog.clear()
    workshop.train(out, run=run)
    told = caplog.text
    assert told.count("is damaged") == damaged
    assert ("resuming from iteration 23 of 40" in told) == (damaged == 1)
    same(out, tmp_path / "straight")


@pytest.mark.parametrize(("network", "number"), [("tiny", 205), ("explosive", 62)])
def test_a_collapse_after_a_kill(workshop, tmp_path, monkeypatch, network, number):
    """Found out at the same iteration, and ended with the same healthy weights, though another process saw them."""
    changes = {"iterations": 300, "learning_rate": 1e3 if network == "tiny" else 1e-3, "run": {"save_every": 0}}
    straight = workshop.train(tmp_path / "straight", network, **changes)
    assert straight["outcome"] == "collapsed"
    assert killed(monkeypatch, (*STEP, True), number, lambda: workshop.train(tmp_path / "killed", network, **changes))
    record = workshop.train(tmp_path / "killed", network, **changes)
    assert record["collapse"] == straight["collapse"]
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")


OWN = {"loss": "own_training:Moody", "optimiser": {"name": "own_training:SignMomentum", "beta": 0.8}}
WAYS = [
    {"threads": 2},
    {"precision": "bf16"},
    {"ema_buffers": "frozen"},
    {"draw": "subimages"},
    {"optimiser": "adamw", "weight_decay": 0.1, "gradient_clip": 0.01, "warm_up": 7},
    {"optimiser": {"name": "sgd", "momentum": 0.9, "nesterov": True}, "learning_rate": 0.01, "augment": ["rotate"]},
    {"optimiser": OWN["optimiser"], "schedule": {"name": "multistep", "milestones": [5, 8, 15]}},
    {"loss": OWN["loss"], "schedule": "constant", "augment": []},
    {"loss": "own_training:TwoTerms", "precision": "bf16"},
]


@pytest.mark.parametrize("changes", WAYS, ids=str)
def test_other_ways_to_train(workshop, tmp_path, monkeypatch, changes):
    """More threads than one, half precision, statistics that are not averaged, the authors' draw in several rounds.

    And other optimisers, each with its state, losses and optimisers of a user's own, schedules and symmetries.
    """
    monkeypatch.setattr(draws, "HR_SIDE", 40)
    monkeypatch.setattr(draws, "HR_STEP", 8)
    monkeypatch.setattr(draws, "ENLARGED", 1)
    changes = {**changes, "iterations": 20, "run": {"save_every": 0}}
    try:
        workshop.train(tmp_path / "straight", "batch_normed", **changes)
        out = tmp_path / "killed"
        for number in (6, 9):
            assert killed(monkeypatch, (*STEP, True), number, lambda: workshop.train(out, "batch_normed", **changes))
        workshop.train(out, "batch_normed", **changes)
    finally:
        torch.set_num_threads(1)
    same(out, tmp_path / "straight")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("network", ["tiny", "batch_normed", "drawing"])
def test_on_a_gpu(workshop, tmp_path, monkeypatch, network):
    """The same on the device where it matters."""
    changes = {"device": "cuda", "run": {"save_every": 0}}
    workshop.train(tmp_path / "straight", network, **changes)
    for number in (5, 13, 17):
        train = partial(workshop.train, tmp_path / "killed", network, **changes)
        assert killed(monkeypatch, (*STEP, True), number, train)
    workshop.train(tmp_path / "killed", network, **changes)
    same(tmp_path / "killed", tmp_path / "straight")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_as_a_cuda_graph(workshop, tmp_path, monkeypatch):
    """A recorded step leaves the bits of one that is sent off kernel by kernel, killed before and after it, too."""
    workshop.train(tmp_path / "straight", device="cuda")
    changes = {"device": "cuda", "run": {"save_every": 0, "cuda_graph": True}}
    for number in (2, 4, 17):
        train = partial(workshop.train, tmp_path / "killed", **changes)
        assert killed(monkeypatch, (CapturedStep, "__call__", True), number, train)
    workshop.train(tmp_path / "killed", **changes)
    same(tmp_path / "killed", tmp_path / "straight")


@pytest.mark.parametrize("number", [50, 120])
def test_a_row_of_the_history_that_a_kill_cuts_in_two(workshop, tmp_path, monkeypatch, number):
    """One row for 150 iterations, of which the first 100 have been looked at."""
    changes = {"iterations": 150, "validate_every": 150, "run": {"save_every": 0, "log_every": 150}}
    workshop.train(tmp_path / "straight", **changes)
    assert killed(monkeypatch, (*STEP, True), number, lambda: workshop.train(tmp_path / "killed", **changes))
    workshop.train(tmp_path / "killed", **changes)
    same(tmp_path / "killed", tmp_path / "straight")


# --- in processes of their own, SIGKILL at a chosen point ---

POINTS = [
    ("before step", 9),
    ("after step", 17),
    ("in validation", 2),
    ("half a state", 1),
    ("half a state", 2),
    ("half a state", 14),
    ("before a state's sync", 1),
    ("before a state's sync", 11),
    ("before a state's rename", 1),
    ("before a state's rename", 13),
    ("after a state's rename", 1),
    ("after a state's rename", 3),
    ("after a state's rename", 16),
    ("after a save", 15),
    ("before a final file", 1),
    ("before a final file", 2),
    ("before a final file", 3),
    ("before a final file", 4),
    ("before a final file", 5),
]


@pytest.fixture(autouse=True)
def study(workshop, tmp_path):
    """The study that the runs in other processes read."""
    return workshop.study(tmp_path / "study.yaml", run={"save_every": 0})


@pytest.mark.parametrize("point", POINTS, ids=[f"{name} {number}" for name, number in POINTS])
def test_killed_at_a_point_of_a_save_or_of_the_end(workshop, tmp_path, straight, point):
    process = workshop.child(workshop.arguments(tmp_path / "run", study=tmp_path / "study.yaml"), point)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    workshop.train(tmp_path / "run")
    same(tmp_path / "run", straight)


@pytest.mark.parametrize("point", [("after step", 17), ("half a state", 6), ("before a final file", 4)], ids=str)
def test_killed_with_a_loss_and_an_optimiser_of_ones_own(workshop, tmp_path, point):
    """By the command, which tries both first; and what the loss draws and counts goes on where it was."""
    changes = {**OWN, "run": {"save_every": 0}}
    study = workshop.study(tmp_path / "study.yaml", **changes)
    workshop.train(tmp_path / "straight", **changes)
    process = workshop.child(workshop.arguments(tmp_path / "run", study=study), point)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process = workshop.child(workshop.arguments(tmp_path / "run", study=study))
    process.join()
    assert process.exitcode == 0
    same(tmp_path / "run", tmp_path / "straight")


def random_kills(workshop, tmp_path, straight, wanted, seed):
    """SIGKILL from outside at random moments, the run started again after each, in as many folders as it takes."""
    generator = random.Random(seed)
    kills, folder = 0, 0
    while kills < wanted:
        out = tmp_path / f"random {seed} {folder}"
        folder, attempts = folder + 1, 0
        while True:
            process = workshop.child(workshop.arguments(out, study=tmp_path / "study.yaml"), ("slowly", 10))
            # As long as the run takes when it is left alone, roughly; longer and longer, so that a slow machine ends.
            attempts += 1
            process.join(generator.uniform(0, 0.5 * 1.05**attempts))
            if process.exitcode is None:
                process.kill()
            process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            kills += 1
        same(out, straight)
    return kills


def test_killed_at_random_moments(workshop, tmp_path, straight):
    random_kills(workshop, tmp_path, straight, 30, seed=0)


@pytest.mark.slow
def test_killed_at_two_hundred_random_moments(workshop, tmp_path, straight):
    random_kills(workshop, tmp_path, straight, 200, seed=1)


def test_the_command_itself_killed_at_random_moments(workshop, tmp_path, straight):
    """`python -m safmn train`, from its very start: five kills, the last ones during training."""
    generator = random.Random(2)
    out = tmp_path / "command"
    arguments = workshop.arguments(out, study=tmp_path / "study.yaml")
    for number in range(5):
        with workshop.command(*arguments) as process:
            if number < 2:
                time.sleep(generator.uniform(0, 1))
            else:
                wait_for_a_state(out, process)
            process.kill()
            process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL
        for path in (out / "state").glob("iteration-*"):  # so that the next one has something left to do
            if number < 4 and "00040" in path.name:
                path.unlink()
    with workshop.command(*arguments) as process:
        process.communicate()
        assert process.returncode == 0
    same(out, straight)


def wait_for_a_state(out, process):
    """Until one that was not there is saved, or the process has ended."""
    before = set((out / "state").glob("iteration-*.state"))
    until(lambda: set((out / "state").glob("iteration-*.state")) - before or process.poll() is not None)
