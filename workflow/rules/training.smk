# Training: one job a variant, scale and seed; `train_<variant>` is the target of all runs of a variant.


rule train:
    input:
        packs=lambda wildcards: packs(
            study.data["train"] + study.data["validation"], wildcards.scale
        ),
    output:
        best=f"{RESULTS}/training/{{network}}/x{{scale}}_seed{{seed}}/best.safetensors",
        last=f"{RESULTS}/training/{{network}}/x{{scale}}_seed{{seed}}/last.safetensors",
        raw=f"{RESULTS}/training/{{network}}/x{{scale}}_seed{{seed}}/last_raw.safetensors",
        history=f"{RESULTS}/training/{{network}}/x{{scale}}_seed{{seed}}/history.csv",
        record=f"{RESULTS}/training/{{network}}/x{{scale}}_seed{{seed}}/run.json",
    log:
        f"{RESULTS}/logs/train/{{network}}_x{{scale}}_seed{{seed}}.log",
    conda:
        "../../environment.yml"
    threads: study.training["threads"] if study.training else 1
    resources:
        gpu_share=GPU_TRAINING,
    params:
        study=STUDY,
        folder=subpath(output.best, parent=True),
        packs=f"{RESULTS}/data",
        fingerprint=lambda wildcards: training_fingerprint(
            wildcards.network, int(wildcards.scale), int(wildcards.seed)
        ),
    message:
        "Train {wildcards.network} x{wildcards.scale} with seed {wildcards.seed}."
    # `safmn train` first compares the network's counts with its printed row: one that contradicts it costs no GPU-hour.
    # The state to resume from lies in {params.folder}/state, undeclared: Snakemake would delete it with a failed job.
    # `exec`: a shell in between would die of the signals that make `safmn train` save, and take it along.
    shell:
        "exec python -m safmn train {wildcards.network} --study {params.study:q} --scale {wildcards.scale} --seed {wildcards.seed}"
        " --packs {params.packs:q} --out {params.folder:q} > {log:q} 2>&1"


for name in study.variants if study.training else []:

    rule:
        name:
            f"train_{name}"
        input:
            [
                f"{RESULTS}/training/{run.folder}/best.safetensors"
                for run in study.runs(name)
            ],
        message:
            f"{variants.discover()[name].description}"
