# What the rules share: the study, validated before anything runs, and the fingerprints that decide what is stale.
import json
import os
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

# `python -m safmn` in a rule is this checkout, run by the Python that runs Snakemake or, with --sdm conda, by the
# environment's, which goes before it.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(workflow.basedir), os.environ.get("PYTHONPATH")]))
sys.path.insert(0, str(workflow.basedir))

from safmn import fingerprint, networks, variants
from safmn.cost import lease
from safmn.data import sources
from safmn.errors import UserError
from safmn.study import Study, digest

try:
    study = Study.from_snakemake(config, workflow.overwrite_configfiles)
except UserError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"results/{study.name}"
STUDY = f"{RESULTS}/study.json"
# A local job takes a GPU where there is one; on a cluster the profile says what a job needs.
GPU = 1 if lease.visible_devices() else 0


wildcard_constraints:
    network="[a-z][a-z0-9_]*",
    dataset="[A-Za-z0-9_][A-Za-z0-9_.+-]*",
    scale="[234]",
    seed="[0-9]+",
    which="best|last",


def packs(uses, scale):
    """The packed stores of all datasets that the study uses so, e.g. ("train", "validation")."""
    names = {sources.parse_selection(text)[0]: None for use in uses for text in study.data[use]}
    return [f"{RESULTS}/data/{name}/x{scale}/index.json" for name in names]


def images(wildcards):
    """The image files of a dataset, so that a changed one is noticed; none while the dataset is not there."""
    try:
        location = sources.locate(wildcards.dataset, study.data["root"], study.data["folders"])
        pairs = location.pairs(int(wildcards.scale))
    except UserError:
        return []  # the job tells what is missing and how to get it
    return [path for pair in pairs for path in (pair.hr, pair.lr) if path is not None]


def own_folder(dataset):
    """The option that tells `safmn pack` of a folder outside the data root."""
    folder = study.data["folders"].get(dataset)
    return f"--folder {shlex.quote(folder)}" if folder else ""


@cache
def training_fingerprint(network, scale, seed):
    """What a run's result depends on; a changed comment is not among it."""
    from safmn.study import Run
    from safmn.training import loop

    specification = study.specification(Run(network, scale, seed))
    try:
        return loop.key_of(specification, [])
    except UserError as error:
        raise WorkflowError(str(error)) from None


@cache
def quality_fingerprint():
    """The code that makes a PSNR out of weights and images."""
    from safmn.quality import evaluation

    return fingerprint.code(evaluation.evaluate)


@cache
def cost_fingerprint(stage, network):
    """The code that counts, and what it counts."""
    from importlib import import_module

    counter = import_module(f"safmn.cost.{stage}")
    built = networks.build(network, networks.info(network).scales[-1])
    return digest([fingerprint.code(counter.measure), fingerprint.network(built)])


def render_what_is_there():
    """The command that renders a half-finished study."""
    content = shlex.quote(json.dumps(study.content))
    return f"python -m safmn resolve --content {content} --out {STUDY} && python -m safmn tables --study {STUDY}"
