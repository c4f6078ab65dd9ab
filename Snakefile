# SAFMN (ICCV 2023), reproduced: data -> training -> quality, cost -> report.
#
#   snakemake --cores all                                  the mini study, config/mini.yaml
#   snakemake --cores all --configfile config/t291.yaml --config data_root=FOLDER
#   snakemake --list                                       one target a variant: train_no_fm, train_ln_bn, ...
#
# Every rule runs one `safmn` command, which can be run by hand as well.
import os

from snakemake.utils import min_version

min_version("9.19")


# Used by `--sdm apptainer` only: an image built from container.def, see docs/container.md.
container: os.environ.get("SAFMN_CONTAINER", "safmn.sif")


# A study is complete in itself: one that --configfile names replaces this default, and is not merged into it.
if not (workflow.overwrite_configfiles or workflow.configfiles):

    configfile: f"{workflow.current_basedir}/config/mini.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/quality.smk"
include: "workflow/rules/cost.smk"
include: "workflow/rules/inspection.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        rules.tables.output,
    message:
        "All tables, figures and the page of the study."


# Remove the mark of a finished study; the rule `tables` sets it again. Try what is a user's own in its training: a
# mistake there ends the run before anything is trained. Then say how long this will take, and what it came to at the end.
onstart:
    jobs.begin()
    if jobs.needs_trial:
        shell(f"python -m safmn trial --study {STUDY}")
    screen.begin(
        logger,
        len(workflow.dag),
        runs_to_train(workflow.dag),
        None if CLUSTER else workflow.cores,
    )


onsuccess:
    screen.succeed()


onerror:
    # Render the tables without what failed; its cells give the reason.
    if not screen.stopped:
        shell(
            f"python -m safmn tables --study {STUDY} > {jobs.at(layout.log('tables'))} 2>&1"
        )
