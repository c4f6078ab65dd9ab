# What the rules share: the study, validated before anything runs, and the fingerprints that decide what is stale.
import os
import shlex
import sys
from functools import cache
from importlib import import_module

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(workflow.basedir))

from safmn import fingerprint, networks, paths, variants
from safmn.cost import lease
from safmn.data import sources
from safmn.errors import UserError
from safmn.files import write_json
from safmn.study import Study, digest

try:
    study = Study.from_snakemake(config, workflow.overwrite_configfiles)
except UserError as error:
    raise WorkflowError(str(error)) from None

# `python -m safmn` in a rule is this checkout, run by the Python that runs Snakemake or, with --sdm conda, by the
# environment's, which goes before it.
paths.reach_from_child_processes()

RESULTS = f"results/{study.name}"
# What all jobs read. It is no rule's output: a job that depended on it would be done again whenever any line of it
# changes, and an `ancient` input that is itself to be made keeps Snakemake 9 from seeing that the job's own parameters
# changed. Each rule carries the part of the study that it depends on as a parameter instead.
STUDY = f"{RESULTS}/study.json"
# A local job takes a GPU where there is one; on a cluster the profile says what a job needs.
GPU = 1 if lease.visible_devices() else 0


# Test sets that the study goes without where they are not there; their cells say how to get them.
TESTED = [
    text
    for text in study.data["test"]
    if sources.can_be_expected(text, study.data["root"], study.data["folders"])
]


wildcard_constraints:
    network="[a-z][a-z0-9_]*",
    dataset="[A-Za-z0-9_][A-Za-z0-9_.+-]*",
    scale="[234]",
    seed="[0-9]+",
    which="best|last",


def packs(selections, scale):
    """The packed stores that selections of images are taken from."""
    names = {sources.parse_selection(text)[0]: None for text in selections}
    return [f"{RESULTS}/data/{name}/x{scale}/index.json" for name in names]


def images(wildcards):
    """The image files of a dataset, so that a changed one is noticed; none while the dataset is not there."""
    try:
        location = sources.locate(
            wildcards.dataset, study.data["root"], study.data["folders"]
        )
        pairs = location.pairs(int(wildcards.scale))
    except UserError:
        return []  # the job tells what is missing and how to get it
    return [path for pair in pairs for path in (pair.hr, pair.lr) if path is not None]


def quality_files(network, scale, weights):
    """One CSV a test set."""
    return [
        f"{RESULTS}/quality/{network}/x{scale}/{weights}/{sources.parse_selection(text)[0]}.csv"
        for text in TESTED
    ]


def test_sets(scale):
    """The packed test sets, with the part of each that the study tests on."""
    chosen = [(text, sources.parse_selection(text)[0]) for text in TESTED]
    return [
        f"{RESULTS}/data/{name}/x{scale}{text.removeprefix(name)}"
        for text, name in chosen
    ]


def published_quality():
    """The networks of Table 1 whose published weights are at hand, and bicubic, which needs none."""
    found = []
    for name in [*study.networks, *study.variants]:
        for scale in study.scales:
            if scale in networks.info(name).scales and (
                name == "bicubic" or published_file(name, scale)
            ):
                found += quality_files(name, scale, "published")
            if name == "bicubic":
                found += quality_files(name, scale, "legacy")
    return found


def published_file(network, scale):
    """The authors' file of a network, or None."""
    from safmn.networks import published_weights

    return published_weights.at_hand(
        network, int(scale), study.content["weights"]["root"]
    )


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
def counter_fingerprint(stage):
    """The code that counts."""
    return fingerprint.code(import_module(f"safmn.cost.{stage}").measure)


@cache
def cost_fingerprint(stage, network):
    """The code that counts, what it counts, and the switches that do not show in the code."""
    variant = variants.discover().get(network)
    return digest(
        [
            counter_fingerprint(stage),
            fingerprint.of_network(network),
            variant and variant.switches,
        ]
    )
