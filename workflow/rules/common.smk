# What the rules share: the study, validated before anything runs, and the fingerprints that decide what is stale.
import os
import re
import shlex
import signal
import sys
from functools import cache
from importlib import import_module

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(workflow.basedir))

from safmn import fingerprint, networks, paths
from safmn.device import allocator
from safmn.networks import variants
from safmn.device import lease
from safmn.data import sources, supply
from safmn.errors import UserError, one_line
from safmn.files import write_json
from safmn.inspection import subjects
from safmn.study import Study
from safmn.files import digest

try:
    study = Study.from_snakemake(config, workflow.overwrite_configfiles)
    TO_FETCH = study.to_fetch()
except UserError as error:
    raise WorkflowError(one_line(str(error))) from None

# `python -m safmn` in a rule is this checkout, run by the Python that runs Snakemake or, with --sdm conda, by the
# environment's, which goes before it.
paths.reach_from_child_processes()
allocator.tune_child_processes()

if not workflow.is_main_process:
    # SLURM's signal before a time limit reaches all processes of a job, but it is `safmn train` that has to save.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

RESULTS = f"results/{study.name}"
# What all jobs read. It is no rule's output: a job that depended on it would be done again whenever any line of it
# changes, and an `ancient` input that is itself to be made keeps Snakemake 9 from seeing that the job's own parameters
# changed. Each rule carries the part of the study that it depends on as a parameter instead.
STUDY = f"{RESULTS}/study.json"
# Says that the tables are of a finished study. Those that `onerror` renders look the same to Snakemake, which does not
# make what is missing for tables that are there: a failed study would never be gone on with.
FINISHED = f"{RESULTS}/finished"
# A local job takes a GPU where there is one; on a cluster the profile says what a job needs. Snakemake counts whole
# numbers, so a device is as many shares as training jobs may be on it: training takes one, other jobs take all of it.
DEVICES = len(lease.visible_devices())
GPU = study.content["run"]["jobs_per_device"] if DEVICES else 0
GPU_TRAINING = 1 if DEVICES else 0
if (
    workflow.is_main_process
    and workflow.resource_settings.nodes is None  # no cluster
    and "gpu_share" not in workflow.global_resources
):
    # How many jobs run at once; which device each gets is the lease's matter.
    workflow.register_resource("gpu_share", DEVICES * GPU)


# Downloads: where they go, and what comes from there.
DOWNLOADS = study.roots[-1] if study.data["download"] else None
WEIGHTS = study.weights_roots[-1] if study.content["weights"]["download"] else None
FETCHED = [name for source in TO_FETCH.values() for name in source]
FETCHED_WEIGHTS = study.weights_to_fetch()
# Test sets that the study goes without where they are not there; their cells say how to get them.
TESTED = [
    text
    for text in study.data["test"]
    if sources.can_be_expected(text, study.roots, study.data["folders"])
]


# What Figures 2, 5 and 6 look at.
SCENES = subjects.scenes(study, TESTED)


wildcard_constraints:
    network="[a-z][a-z0-9_]*",
    dataset="[A-Za-z0-9_][A-Za-z0-9_.+ -]*",
    scale="[234]",
    seed="[0-9]+",
    which="best|last",


def packs(selections, scale):
    """The packed stores that selections of images are taken from."""
    names = {sources.parse_selection(text)[0]: None for text in selections}
    return [f"{RESULTS}/data/{name}/x{scale}/index.json" for name in names]


def images(wildcards):
    """The image files of a dataset, so that a changed one is noticed; none while the dataset is not there.

    For one that is downloaded, the record of that: its images are known only afterwards, and were verified then.
    """
    if wildcards.dataset in FETCHED:
        return marker(wildcards.dataset, wildcards.scale)
    try:
        location = sources.locate(wildcards.dataset, study.roots, study.data["folders"])
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
    """The authors' file of a network, at hand or to be downloaded, or None."""
    return study.published_weights(network, int(scale))


def marker(dataset, scale):
    """The file that says that a dataset has been downloaded for a scale."""
    return str(supply.marker(DOWNLOADS, study.name, dataset, int(scale)))


def where(dataset):
    """The options that tell `safmn pack` where a dataset lies."""
    folder = study.data["folders"].get(dataset)
    roots = [DOWNLOADS] if dataset in FETCHED else study.roots
    options = [f"--data-root {shlex.quote(str(root))}" for root in roots]
    border = ["--border clamped"] if study.data["border"] == "clamped" else []
    return " ".join(
        [*options, *([f"--folder {shlex.quote(folder)}"] if folder else []), *border]
    )


@cache
def training_fingerprint(network, scale, seed):
    """What a run's result depends on; a changed comment is not among it."""
    from safmn.study import Run
    from safmn.training import loop

    specification = study.specification(Run(network, scale, seed))
    try:
        return loop.key_of(specification, [])
    except UserError as error:
        raise WorkflowError(one_line(str(error))) from None


@cache
def pack_fingerprint():
    """The code that makes pixels out of image files."""
    from safmn.data import pairs

    return fingerprint.code(pairs.read_pair)


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


def inspected():
    """Those networks whose weights are at hand or will be trained; nothing without an image to look at."""
    return [
        subject
        for subject in subjects.subjects(study)
        if SCENES
        and (
            subject.run is not None
            or subject.network == "bicubic"
            or published_file(subject.network, subject.scale)
        )
    ]


def inspected_weights(wildcards):
    """The file that a network is looked into with; none for bicubic."""
    if wildcards.weights == subjects.PUBLISHED:
        return published_file(wildcards.network, wildcards.scale) or []
    seed, which = wildcards.weights.split("_")
    return f"{RESULTS}/training/{wildcards.network}/x{wildcards.scale}_{seed}/{which}.safetensors"


def scene_options(scale):
    """The scenes as `safmn inspect` takes them."""
    found = []
    for scene in SCENES:
        name = sources.parse_selection(scene["test"])[0]
        words = [f"{RESULTS}/data/{name}/x{scale}{scene['test'].removeprefix(name)}"]
        words += [scene["image"]] if scene["image"] else []
        words += scene["at"] or []
        found.append("--scene " + " ".join(shlex.quote(str(word)) for word in words))
    return " ".join(found)


@cache
def looking_fingerprint():
    """The code that chooses where to look, and looks; not that which reads and writes files."""
    from safmn.inspection import record, scenes

    return fingerprint.code(record.inspect, scenes.richest)


@cache
def inspection_fingerprint(network):
    """The code that looks, and what it looks into."""
    return digest([looking_fingerprint(), fingerprint.of_network(network)])
