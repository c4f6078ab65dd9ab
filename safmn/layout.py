"""All paths below `results/<study>/`; each one is written here and nowhere else.

All functions return paths relative to that folder, as text with `/`. A rule passes wildcards instead of values:
`weights("{network}", "{scale}", "{seed}", "best")`.
"""

STUDY = "study.json"
"""The study, with every default filled in."""
FINISHED = "finished"
"""The file that marks the tables as those of a finished study."""
CELLS = "cells.csv"
NETWORKS = "networks.csv"
PAGE = "report.html"
PROVENANCE = "provenance.json"
PLAN = "plan.json"
IMPORTED = "imported.json"
"""Which results come from somebody else's archive."""
OVERVIEW = "overview"  # stem of the page over all studies, beside their folders

DATA, COMPLEXITY = "data", "cost/complexity"
INDEX, PIXELS, MANIFEST = "index.json", "pixels.u8", "manifest.json"  # of a packed dataset
RUN, HISTORY, FAILURE, STATE = "run.json", "history.csv", "failure.txt", "state"  # of a training run
SCALARS = "tensorboard"  # likewise
EVALUATION = "evaluation.json"
WEIGHTS = ("best", "last", "last_raw")
"""Weights of a training run: the best and the last averaged ones, and the last ones that are not averaged."""
FORMS = ("md", "csv", "tex")  # of a table
PICTURES = ("svg", "png")  # of a figure


def packed(dataset: str, scale: int | str) -> str:
    """Return the folder of a packed dataset."""
    return f"{DATA}/{packed_name(dataset, scale)}"


def packed_name(dataset: str, scale: int | str) -> str:
    """Return the folder of a packed dataset, below `data/`."""
    return f"{dataset}/x{scale}"


def run(network: str, scale: int | str, seed: int | str) -> str:
    """Return the folder of a training run."""
    return f"training/{run_name(network, scale, seed)}"


def run_name(network: str, scale: int | str, seed: int | str) -> str:
    """Return the folder of a training run, below `training/`."""
    return f"{network}/x{scale}_seed{seed}"


def record(network: str, scale: int | str, seed: int | str) -> str:
    """Return the record of a training run, which is there when it is done."""
    return f"{run(network, scale, seed)}/{RUN}"


def weights(network: str, scale: int | str, seed: int | str, which: str) -> str:
    """Return a file of trained weights; `which` is one of WEIGHTS."""
    return f"{run(network, scale, seed)}/{weights_file(which)}"


def weights_file(which: str) -> str:
    """Return the name of a file of weights in the run's folder."""
    return f"{which}.safetensors"


def trained(seed: int | str, which: str) -> str:
    """Return the name of trained weights in evaluations and inspections, such as `seed0_best`."""
    return f"seed{seed}_{which}"


def quality(network: str, scale: int | str, which: str) -> str:
    """Return the folder of evaluations of some weights; `which` is `published`, `legacy`, or from `trained`."""
    return f"quality/{network}/x{scale}/{which}"


def scores(network: str, scale: int | str, which: str, dataset: str) -> str:
    """Return the file with PSNR and SSIM of every image of a test set."""
    return f"{quality(network, scale, which)}/{dataset}.csv"


def evaluation(network: str, scale: int | str, which: str) -> str:
    """Return the record of an evaluation."""
    return f"{quality(network, scale, which)}/{EVALUATION}"


def complexity(network: str) -> str:
    """Return the file with a network's parameters, FLOPs and activations at all its scales."""
    return f"{COMPLEXITY}/{network}.json"


def cost(what: str) -> str:
    """Return the file of a measurement of several networks: `memory`, `runtime`, `operations` or `complexity`."""
    return f"cost/{what}.json"


def inspection(network: str, scale: int | str, which: str) -> str:
    """Return the stem of the .json and .npz files of an inspection."""
    return f"inspection/{network}/x{scale}/{which}"


def table(number: int | str, form: str) -> str:
    """Return the file of a table of the paper; `number` may be a name, such as `claims`."""
    name = number if isinstance(number, str) else f"table{number}"
    return f"tables/{name}.{form}"


def figure(name: str, form: str) -> str:
    """Return the file of a plot, or of the numbers in it (`csv`)."""
    return f"figures/{name}.{form}"


def log(rule: str, name: str = "") -> str:
    """Return the log of a job."""
    return f"logs/{rule}/{name}.log" if name else f"logs/{rule}.log"


def run_log(rule: str, network: str, scale: int | str, seed: int | str) -> str:
    """Return the log of a job that belongs to one training run."""
    return log(rule, f"{network}_x{scale}_seed{seed}")
