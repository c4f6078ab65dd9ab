"""Where everything of a study lies below `results/<study>/`: each path is written here and nowhere else.

All functions return paths relative to that folder, as text with `/`. A rule passes wildcards in place of values:
`weights("{network}", "{scale}", "{seed}", "best")`.
"""

STUDY = "study.json"
"""The study as it was asked for, every default filled in."""
FINISHED = "finished"
"""Says that the tables are those of a finished study."""
CELLS = "cells.csv"
PAGE = "report.html"
PROVENANCE = "provenance.json"
PLAN = "plan.json"

DATA, COMPLEXITY = "data", "cost/complexity"
INDEX, PIXELS, MANIFEST = "index.json", "pixels.u8", "manifest.json"  # of a packed dataset
RUN, HISTORY, FAILURE, STATE = "run.json", "history.csv", "failure.txt", "state"  # of a training run
SCALARS = "tensorboard"  # likewise
EVALUATION = "evaluation.json"
WEIGHTS = ("best", "last", "last_raw")
"""What a training run leaves: the best and the last averaged weights, and the last that were not averaged."""
FORMS = ("md", "csv", "tex")  # of a table
PICTURES = ("svg", "png")  # of a figure


def packed(dataset: str, scale: int | str) -> str:
    """The folder of a packed dataset."""
    return f"{DATA}/{packed_name(dataset, scale)}"


def packed_name(dataset: str, scale: int | str) -> str:
    """The folder of a packed dataset, below `data/`."""
    return f"{dataset}/x{scale}"


def run(network: str, scale: int | str, seed: int | str) -> str:
    """The folder of a training run."""
    return f"training/{run_name(network, scale, seed)}"


def run_name(network: str, scale: int | str, seed: int | str) -> str:
    """The folder of a training run, below `training/`."""
    return f"{network}/x{scale}_seed{seed}"


def weights(network: str, scale: int | str, seed: int | str, which: str) -> str:
    """A file of trained weights; `which` is one of WEIGHTS."""
    return f"{run(network, scale, seed)}/{weights_file(which)}"


def weights_file(which: str) -> str:
    """Its name in the run's folder."""
    return f"{which}.safetensors"


def trained(seed: int | str, which: str) -> str:
    """How evaluation and inspection name trained weights: `seed0_best`."""
    return f"seed{seed}_{which}"


def quality(network: str, scale: int | str, which: str) -> str:
    """The folder of evaluations of one file of weights; `which`: `published`, `legacy` or as `trained` says."""
    return f"quality/{network}/x{scale}/{which}"


def scores(network: str, scale: int | str, which: str, dataset: str) -> str:
    """PSNR and SSIM of every image of a test set."""
    return f"{quality(network, scale, which)}/{dataset}.csv"


def evaluation(network: str, scale: int | str, which: str) -> str:
    """What was evaluated, on which images, where and when."""
    return f"{quality(network, scale, which)}/{EVALUATION}"


def complexity(network: str) -> str:
    """The counts of a network at all its scales."""
    return f"{COMPLEXITY}/{network}.json"


def cost(what: str) -> str:
    """A measurement of several networks: `memory`, `runtime` or `operations`; `complexity` says which were counted."""
    return f"cost/{what}.json"


def inspection(network: str, scale: int | str, which: str) -> str:
    """What a network looks at: stem of a .json and an .npz file."""
    return f"inspection/{network}/x{scale}/{which}"


def table(number: int | str, form: str) -> str:
    """A table of the paper; `number` may be a name, as in `claims`."""
    name = number if isinstance(number, str) else f"table{number}"
    return f"tables/{name}.{form}"


def figure(name: str, form: str) -> str:
    """A plot, or the numbers in it (`csv`)."""
    return f"figures/{name}.{form}"


def log(rule: str, name: str = "") -> str:
    """The log of a job."""
    return f"logs/{rule}/{name}.log" if name else f"logs/{rule}.log"


def run_log(rule: str, network: str, scale: int | str, seed: int | str) -> str:
    """The log of a job that belongs to one training run."""
    return log(rule, f"{network}_x{scale}_seed{seed}")
