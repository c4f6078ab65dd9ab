"""Which edits of the code retrain which networks. Each case is a copy of the project with one edit in it."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from safmn import fingerprint, networks
from safmn.networks import registry, variants
from safmn.paths import ROOT

VARIANTS = [
    "safmn",
    "safm_none",
    "ccm_none",
    "ccm_se",
    "avg_pool",
    "gelu_sigmoid",
    "ln_bn",
    "ln_fbn",
    "ln_l2",
    "ln_none",
]
NETWORKS = [*VARIANTS, "imdn", "edsr_baseline", "mine"]
NETWORK_TABLES = ["safmn/networks/published_networks.csv", "safmn/networks/published_weights.csv"]

# Fingerprints of all NETWORKS in each of the folders given, in one process: the project is imported anew for each.
SCRIPT = """
import json, sys
names, folders = json.loads(sys.argv[1]), sys.argv[2:]
found = {}
for folder in folders:
    for module in list(sys.modules):
        if module.partition(".")[0] == "safmn":
            del sys.modules[module]
    sys.path.insert(0, folder)
    from safmn.training import identity
    found[folder] = {name: identity.code_fingerprint(name) for name in names}
    sys.path.remove(folder)
assert not {"torch", "numpy", "my_layers", "my_helpers", "my_late"} & set(sys.modules)
print(json.dumps(found))
"""

# A user's own layers, beside the variant that names them: a function of a neighbouring module, a base class there, a
# constant computed there, a table, lambdas, a partial, an object, an import inside a function.
MY_LAYERS = """
from functools import partial

import torch.nn.functional as F
from torch import nn

from my_helpers import GAIN, Base, shift
import my_helpers

ACTIVATE = nn.GELU()
TABLE = {"square": lambda x: x * x, "cube": lambda x: x * x * x}
half = lambda x: x / 2


class Mine(Base):
    def __init__(self, dim):
        super().__init__(dim)
        self.pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1)
        self.chosen = my_helpers.pick("first")

    def forward(self, x: nn.Module) -> nn.Module:
        from my_late import late
        return ACTIVATE(late(shift(self.pool(self.conv(x))))) * GAIN + half(TABLE["cube"](x)) + self.chosen(x)
"""
MY_HELPERS = """
from torch import nn

STEP = 2
GAIN = STEP * 0.25


class Base(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 1)


def shift(x):
    return x + 1

def first(x):
    return x * 3


def second(x):
    return x * 4


def pick(name):
    return {"first": first, "second": second}[name]


def unused(x):
    return x
"""

MY_LATE = """
def late(x):
    return x - 1
"""


# --- edits ---

Edit = Callable[[Path], None]


def edited(files: str, transform: Callable[[str], str]) -> Edit:
    """An edit of the text of some files."""

    def edit(folder: Path) -> None:
        for file in folder.glob(files):
            file.write_text(transform(file.read_text(encoding="utf-8")), encoding="utf-8")

    return edit


def change(module: str, name: str) -> Edit:
    """Another statement in a class or function, such as "safmn/training/loss.py", "terms"."""

    def transform(text: str) -> str:
        node = ast.parse(text)
        for part in name.split("."):
            node = next(child for child in node.body if getattr(child, "name", "") == part)
        lines, last = text.splitlines(), node.body[-1]
        lines.insert(last.end_lineno, f"{' ' * last.col_offset}changed = 1")
        return "\n".join(lines)

    return edited(module, transform)


def every(*edits: Edit) -> Edit:
    """All of these edits."""

    def edit(folder: Path) -> None:
        for each in edits:
            each(folder)

    return edit


def assign(module: str, name: str, value: str) -> Edit:
    """Another value for a name at the top of a module."""
    return replace(module, rf"^{name}\b[^=\n]*=[^#\n]*", f"{name} = {value}")


def replace(module: str, pattern: str, text: str) -> Edit:
    """Another text for a pattern."""

    def transform(before: str) -> str:
        after, count = re.subn(pattern, text, before, flags=re.MULTILINE)
        assert count == 1, pattern
        return after

    return edited(module, transform)


def without_comments(text: str) -> str:
    return ast.unparse(ast.parse(text))


def without_docstrings(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
            if len(node.body) > 1:
                del node.body[0]
    return ast.unparse(tree)


def without_annotations(text: str) -> str:
    """Of arguments and results; those in a class body may mean something, and those that a decorator may read."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.decorator_list:
            node.returns = None
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
    return ast.unparse(tree)


def with_other_words(text: str) -> str:
    """Every `UserError(...)` says something else."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "UserError":
            node.args = [ast.Constant("other words")]
    return ast.unparse(tree)


def with_comments(text: str) -> str:
    """A comment before every statement at the top, and a line at the end."""
    lines = [f"# a comment\n{line}" if line.startswith(("def ", "class ", "@")) else line for line in text.split("\n")]
    return "\n".join(lines) + "\n\n# the end\n"


def place(name: str) -> str:
    """The module of SAFMN or its switches that defines a class, a function or a table."""
    for module in ("safmn", "switches"):
        file = ROOT / f"safmn/networks/{module}.py"
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if re.search(rf"^(class |def )?{name.partition('.')[0]}\b", text, re.MULTILINE):
            return str(file.relative_to(ROOT))
    raise AssertionError(f"nothing defines {name} any more: correct this test")


ALL = set(NETWORKS)
OURS = {*VARIANTS, "mine"}

# What is edited -> the edit and the networks that it retrains.
CASES: dict[str, tuple[Edit, set[str]]] = {
    # Nothing that runs in training.
    "layout and comments gone": (edited("**/*.py", without_comments), set()),
    "comments added": (edited("**/*.py", with_comments), set()),
    "docstrings gone": (edited("**/*.py", without_docstrings), set()),
    "annotations gone": (edited("**/*.py", without_annotations), set()),
    "the words of errors": (edited("**/*.py", with_other_words), set()),
    "what surrounds a run": (
        every(
            change("safmn/errors.py", "suggestion"),
            change("safmn/quality/metrics.py", "psnr_y"),
            change("safmn/quality/evaluation.py", "evaluate"),
            change("safmn/paper/verdicts.py", "Verdict"),
            change("safmn/cost/complexity.py", "measure"),
            change("safmn/training/state.py", "StateFolder"),
            change("safmn/training/history.py", "History"),
            change("safmn/commands/train.py", "run"),
            change("safmn/files.py", "atomic"),
            change("safmn/data/packed.py", "pack"),
        ),
        set(),
    ),
    # What every run executes.
    "the loss": (change("safmn/training/loss.py", "terms"), ALL),
    "the schedule": (change("safmn/training/schedule.py", "learning_rate"), ALL),
    "the average": (change("safmn/training/average.py", "Average.update"), ALL),
    "the step": (change("safmn/training/step.py", "TrainStep.__call__"), ALL),
    "the draw of patches": (change("safmn/data/patches.py", "PatchSampler.draw"), ALL),
    "a constant of the draw": (assign("safmn/data/patches.py", "_WORDS", "4"), ALL),
    "the cutting of patches": (change("safmn/data/patches.py", "_slice"), ALL),
    "the seeding": (change("safmn/training/randomness.py", "seed_everything"), ALL),
    "the validation": (change("safmn/training/validation.py", "_psnr"), ALL),
    "what is refused": (replace("safmn/data/patches.py", "            raise _too_small.*", "            pass"), ALL),
    "the choice of the best": (change("safmn/training/validation.py", "is_best"), ALL),
    "the authors' draw": (change("safmn/data/draws.py", "Subimages.places"), ALL),
    "the collapse": (assign("safmn/training/collapse.py", "FACTOR", "4.0"), ALL),
    "precision and threads": (change("safmn/training/loop.py", "configure"), ALL),
    # The architecture: only the variants concerned.
    "FMM": (change(place("FMM"), "FMM"), OURS),
    "SAFMN": (change(place("SAFMN.forward"), "SAFMN.forward"), OURS),
    "levels": (assign(place("LEVELS"), "LEVELS", "3"), OURS),
    "SAFM": (change(place("SAFM.forward"), "SAFM.forward"), OURS - {"safm_none", "mine"}),
    "CCM": (change(place("CCM"), "CCM"), OURS - {"ccm_none"}),
    "squeeze and excitation": (change(place("SqueezeExcitation"), "SqueezeExcitation"), {"ccm_se"}),
    "LayerNorm": (change(place("LayerNorm2d"), "LayerNorm2d"), OURS - {"ln_bn", "ln_fbn", "ln_l2", "ln_none"}),
    "frozen batch norm": (change(place("FrozenBatchNorm2d"), "FrozenBatchNorm2d"), {"ln_fbn"}),
    "L2 norm": (change(place("L2Norm2d"), "L2Norm2d"), {"ln_l2"}),
    "no norm": (change(place("NoNorm"), "NoNorm"), {"ln_none"}),
    "average pooling": (change(place("average_pool"), "average_pool"), {"avg_pool"}),
    "max pooling": (change(place("max_pool"), "max_pool"), OURS - {"safm_none", "avg_pool", "mine"}),
    "GELU": (change(place("gelu"), "gelu"), OURS - {"safm_none", "gelu_sigmoid", "mine"}),
    "another function of torch": (
        replace(place("ACTIVATIONS"), "torch.sigmoid", "torch.tanh"),
        {"gelu_sigmoid"},
    ),
    "another layer of torch": (replace(place("NORMS"), "nn.BatchNorm2d", "nn.InstanceNorm2d"), {"ln_bn"}),
    "a new norm": (replace(place("NORMS"), '"batch_norm":', '"new": nn.InstanceNorm2d, "batch_norm":'), set()),
    "the layers of CCM": (change(place("convolutional"), "convolutional"), OURS - {"ccm_none", "ccm_se"}),
    "the layers of another mixer": (change(place("with_excitation"), "with_excitation"), {"ccm_se"}),
    "no product": (change(place("attention_alone"), "attention_alone"), set()),
    "what makes SAFM fast": (change("safmn/networks/acceleration.py", "FastSAFM.forward"), ALL),
    "a fast backward pass": (change("safmn/networks/acceleration.py", "LayerNorm.backward"), ALL),
    "a published network": (change("safmn/networks/imdn.py", "IMDN"), {"imdn"}),
    "a block of some": (change("safmn/networks/blocks.py", "RangeShift"), {"edsr_baseline"}),
    # A user's own layer.
    "my forward": (change("ablations/my_layers.py", "Mine.forward"), {"mine"}),
    "my unused function": (change("ablations/my_helpers.py", "unused"), {"mine"}),  # my modules count as a whole
    "my base class": (change("ablations/my_helpers.py", "Base"), {"mine"}),
    "my imported function": (change("ablations/my_helpers.py", "shift"), {"mine"}),
    "my late import": (change("ablations/my_late.py", "late"), {"mine"}),
    "my computed constant": (assign("ablations/my_helpers.py", "STEP", "3"), {"mine"}),
    "my function by a table": (change("ablations/my_helpers.py", "first"), {"mine"}),
    "my object": (assign("ablations/my_layers.py", "ACTIVATE", "nn.ReLU()"), {"mine"}),
    "my lambda": (replace("ablations/my_layers.py", "x / 2", "x / 3"), {"mine"}),
    "my lambda in a table": (replace("ablations/my_layers.py", r"x \* x \* x}", "x * x + x}"), {"mine"}),
    "my partial": (replace("ablations/my_layers.py", "kernel_size=3, stride=1, padding=1", "kernel_size=1"), {"mine"}),
}


@pytest.fixture(scope="module")
def fingerprints(tmp_path_factory) -> dict[str, dict[str, str]]:
    """Case -> network -> fingerprint; "as it is" for the project without an edit."""
    parent = tmp_path_factory.mktemp("projects")
    folders = {}
    for number, case in enumerate(["as it is", *CASES]):
        folder = parent / str(number)
        copy_project(folder)
        if case in CASES:
            CASES[case][0](folder)
        folders[case] = str(folder)
    return run(folders, PYTHONHASHSEED="0")


def copy_project(folder: Path) -> None:
    for file in (ROOT / "safmn").rglob("*.py"):
        target = folder / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    for name in ("workflow", "safmn/paper/numbers", *NETWORK_TABLES):
        (folder / name).symlink_to(ROOT / name)
    (folder / "ablations").mkdir()
    for name in VARIANTS:
        (folder / "ablations" / f"{name}.yaml").symlink_to(ROOT / "ablations" / f"{name}.yaml")
    variant = {"title": "Mine", "description": "A layer of one's own", "network": {"mixer": "my_layers:Mine"}}
    (folder / "ablations" / "mine.yaml").write_text(json.dumps(variant))
    for name, text in (("layers", MY_LAYERS), ("helpers", MY_HELPERS), ("late", MY_LATE)):
        (folder / "ablations" / f"my_{name}.py").write_text(text)


def run(folders: dict[str, str], **environment: str) -> dict[str, dict[str, str]]:
    environment = {key: value for key, value in os.environ.items() if key != "SAFMN_ABLATIONS"} | environment
    command = [sys.executable, "-c", SCRIPT, json.dumps(NETWORKS), *folders.values()]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    return {case: found[folder] for case, folder in folders.items()}


@pytest.mark.parametrize("case", CASES)
def test_an_edit_retrains_those_concerned_and_no_others(fingerprints, case):
    before, after = fingerprints["as it is"], fingerprints[case]
    assert {name for name in NETWORKS if before[name] != after[name]} == CASES[case][1]


def test_the_same_in_every_place_and_with_every_hash_seed(tmp_path, fingerprints):
    copy_project(tmp_path / "else where")
    found = run({"as it is": str(tmp_path / "else where")}, PYTHONHASHSEED="12345")
    assert found["as it is"] == fingerprints["as it is"]


@pytest.mark.parametrize("name", variants.discover())
def test_all_that_is_built_counts(name):
    """What the switches choose in the tables by reading is what they choose by running."""
    variant = variants.discover()[name]
    pieces = fingerprint.network(registry.SAFMN, variant.switches, variant.file.parent).pieces
    modules = list(networks.build(name, 4).modules())
    functions = {value for module in modules for value in vars(module).values() if inspect.isfunction(value)}
    built = {f"{used.__module__}.{used.__qualname__}" for used in {*map(type, modules), *functions}}
    assert {name for name in built if name.startswith("safmn.")} <= pieces.keys()


def test_networks_differ(fingerprints):
    """Those that run other code; the number of blocks, say, is in the specification."""
    found = fingerprints["as it is"]
    assert len({found[name] for name in NETWORKS}) == len(NETWORKS)
