# Training: one job for each variant, scale and seed; `train_<variant>` is the target of all runs of a variant.

RUN = layout.run("{network}", "{scale}", "{seed}")


rule train:
    input:
        packed=lambda wildcards: jobs.trained_on(wildcards.network, wildcards.scale),
    output:
        **{
            which: jobs.at(layout.weights("{network}", "{scale}", "{seed}", which))
            for which in layout.WEIGHTS
        },
        history=jobs.at(f"{RUN}/{layout.HISTORY}"),
        record=jobs.at(f"{RUN}/{layout.RUN}"),
    log:
        jobs.at(layout.run_log("train", "{network}", "{scale}", "{seed}")),
    conda:
        "../../environment.yml"
    threads: lambda wildcards: study.training_of(wildcards.network).threads
    resources:
        gpu_share=GPU_TRAINING,
    params:
        study=STUDY,
        folder=subpath(output.best, parent=True),
        packed=jobs.at(layout.DATA),
        fingerprint=training_fingerprint,
    message:
        "Train {wildcards.network} x{wildcards.scale} with seed {wildcards.seed}."
    # `safmn train` first compares the network's counts with its printed row, so that a wrong network costs no GPU-hour.
    # The saved state lies in {params.folder}/state, which is not declared: Snakemake would delete it with a failed job.
    # `exec` replaces the shell, which would otherwise die of the signals that make `safmn train` save, and end it.
    shell:
        "exec python -m safmn train {wildcards.network} --study {params.study:q} --scale {wildcards.scale} --seed {wildcards.seed}"
        " --packed {params.packed:q} --out {params.folder:q} > {log:q} 2>&1"


for name, (names, text) in jobs.targets().items():

    rule:
        name:
            f"train_{name}"
        input:
            [
                jobs.at(layout.weights(run.variant, run.scale, run.seed, "best"))
                for each in names
                for run in study.runs(each)
            ],
        message:
            f"{text}"

    # Snakemake copies all global names for each text that it formats; with a thousand rules, that is half of its time.
    globals().pop(f"__train_{name}", None)
