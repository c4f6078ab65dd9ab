# SAFMN (ICCV 2023), reproduced: data -> training -> quality, cost -> report.
#
#   snakemake --cores all                                  the mini study, config/mini.yaml
#   snakemake --cores all --configfile config/t291.yaml --config data_root=FOLDER
#   snakemake --list                                       one target a variant: train_no_fm, train_ln_bn, ...
#
# Every rule runs one `safmn` command, which can be run by hand as well.
from snakemake.utils import min_version

min_version("9.19")

# A study is a whole: another one given by --configfile replaces this default instead of being merged into it.
if "name" not in config:

    configfile: f"{workflow.basedir}/config/mini.yaml"


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


onstart:
    write_json(STUDY, study.content)


onsuccess:
    # A single target, such as one variant, leaves no page.
    if os.path.exists(f"{RESULTS}/report.html"):
        print(
            f"Tables: {RESULTS}/tables/   page to read: {RESULTS}/report.html",
            file=sys.stderr,
        )


onerror:
    # One failed variant does not keep the others from the tables; its cells say why they are missing.
    shell(f"rm -f {FINISHED} && python -m safmn tables --study {STUDY}")
