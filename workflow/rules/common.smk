# What the rules share: the study, validated before anything runs, and `jobs`, which knows its files and fingerprints.
import os
import re
import signal
import sys

from snakemake.exceptions import WorkflowError

# A checkout's own package goes before an installed one. An installed one has none beside its rules.
HOUSE = os.path.dirname(os.path.dirname(workflow.current_basedir))
if os.path.isdir(os.path.join(HOUSE, "safmn")):
    sys.path.insert(0, HOUSE)

from safmn import layout, networks, paths
from safmn.device import allocator, lease
from safmn.errors import UserError, one_line
from safmn.files import digest
from safmn.networks import variants
from safmn.planning.jobs import Jobs, weights_option
from safmn.study import Study

try:
    paths.enter_project(workflow.main_snakefile)
    study = Study.from_snakemake(
        config, workflow.overwrite_configfiles or workflow.configfiles
    )
    jobs = Jobs(study)
except UserError as error:
    raise WorkflowError(one_line(str(error))) from None

# `python -m safmn` in a rule is this checkout, run by the Python that runs Snakemake or, with --sdm conda, by the
# environment's, which goes before it.
paths.reach_from_child_processes()
allocator.tune_child_processes()

if not workflow.is_main_process:
    # SLURM's signal before a time limit reaches all processes of a job, but it is `safmn train` that has to save.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

# What all jobs read. It is no rule's output: a job that depended on it would be done again whenever any line of it
# changes, and an `ancient` input that is itself to be made keeps Snakemake 9 from seeing that the job's own parameters
# changed. Each rule carries the part of the study that it depends on as a parameter instead.
STUDY = jobs.at(layout.STUDY)
# A local job takes a GPU where there is one; on a cluster the profile says what a job needs. Snakemake counts whole
# numbers, so a device is as many shares as training jobs may be on it: training takes one, other jobs take all of it.
DEVICES = len(lease.visible_devices())
GPU = study.run.jobs_per_device if DEVICES else 0
GPU_TRAINING = 1 if DEVICES else 0
if (
    workflow.is_main_process
    and workflow.resource_settings.nodes is None  # no cluster
    and "gpu_share" not in workflow.global_resources
):
    # How many jobs run at once; which device each gets is the lease's matter.
    workflow.register_resource("gpu_share", DEVICES * GPU)


wildcard_constraints:
    network="[a-z][a-z0-9_]*",
    dataset="[A-Za-z0-9_][A-Za-z0-9_.+ -]*",
    scale="[234]",
    seed="[0-9]+",


def training_fingerprint(wildcards):
    """What a run's result depends on; a target that is no network's is refused by name."""
    try:
        return jobs.training(
            wildcards.network, int(wildcards.scale), int(wildcards.seed)
        )
    except UserError as error:
        raise WorkflowError(one_line(str(error))) from None
