# Shared by all rules: the study, validated before anything runs, and `jobs`, its files and fingerprints.
import os
import re
import signal
import sys

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# In a checkout, its own package is used, not an installed one.
HOUSE = os.path.dirname(os.path.dirname(workflow.current_basedir))
if os.path.isdir(os.path.join(HOUSE, "safmn")):
    sys.path.insert(0, HOUSE)

from safmn import layout, networks, paths
from safmn.device import allocator, lease
from safmn.errors import UserError, as_line
from safmn.files import digest
from safmn.networks import variants
from safmn.planning import preflight
from safmn.planning.jobs import Jobs, weights_option
from safmn.planning.screen import Screen
from safmn.study import Run, Study

try:
    paths.enter_project(workflow.main_snakefile)
    study = Study.from_snakemake(
        config,
        workflow.overwrite_configfiles or workflow.configfiles,
        workflow.config_settings.config,
    )
    jobs = Jobs(study)
    if workflow.is_main_process:
        preflight.check_targets(sys.argv, jobs.targets())
        preflight.check_data(study, sys.argv)
        jobs.try_own_networks()
        for sentence in preflight.not_overridden(
            study, workflow.config_settings.config
        ):
            logger.warning(sentence)
    screen = Screen(study)
except UserError as error:
    raise WorkflowError(as_line(error)) from None

# `python -m safmn` in a rule runs this checkout, with Snakemake's Python or, with --sdm conda, the environment's.
paths.reach_from_child_processes()
allocator.tune_child_processes()

if not workflow.is_main_process:
    # SLURM's signal before a time limit reaches all processes of a job; only `safmn train` has to handle it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

# All jobs read this file, but it is no rule's output. A job that depended on it would run again whenever any line of
# it changes, and as an `ancient` input that has to be made, it keeps Snakemake 9 from noticing changed parameters of
# the job. Instead, each rule has the part of the study that it depends on as a parameter.
STUDY = jobs.at(layout.STUDY)
# A local job takes a GPU if there is one; on a cluster the profile says what a job needs. Snakemake counts in whole
# numbers, so a device has as many shares as training jobs may use it: training takes one, other jobs take all.
DEVICES = len(lease.visible_devices())
GPU = study.run.jobs_per_device if DEVICES else 0
GPU_TRAINING = 1 if DEVICES else 0
CLUSTER = workflow.resource_settings.nodes is not None
if (
    workflow.is_main_process
    and not CLUSTER
    and "gpu_share" not in workflow.global_resources
):
    # The number of jobs at once; `safmn.device.lease` chooses the device of each.
    workflow.register_resource("gpu_share", DEVICES * GPU)


wildcard_constraints:
    network="[a-z][a-z0-9_]*",
    dataset="[A-Za-z0-9_][A-Za-z0-9_.+ -]*",
    scale="[234]",
    seed="[0-9]+",


def training_fingerprint(wildcards):
    """Return the fingerprint of a run; refuse an unknown network with the nearest names."""
    try:
        return jobs.training(
            wildcards.network, int(wildcards.scale), int(wildcards.seed)
        )
    except UserError as error:
        raise WorkflowError(as_line(error)) from None


def runs_to_train(dag):
    """Return the training runs that Snakemake has to do."""
    wanted = [job.wildcards for job in dag.needrun_jobs() if job.rule.name == "train"]
    return [Run(run.network, int(run.scale), int(run.seed)) for run in wanted]
