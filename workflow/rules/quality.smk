# Quality: PSNR-Y and SSIM-Y of every image of every test set, for best and last weights alike.

# Beside the CSV files of a job: what was evaluated, on which images, where and when.
RECORD = "evaluation.json"


rule evaluate:
    input:
        weights=f"{RESULTS}/training/{{network}}/x{{scale}}_seed{{seed}}/{{which}}.safetensors",
        packs=lambda wildcards: packs(TESTED, wildcards.scale),
    output:
        scores=quality_files("{network}", "{scale}", "seed{seed}_{which}"),
        record=f"{RESULTS}/quality/{{network}}/x{{scale}}/seed{{seed}}_{{which}}/{RECORD}",
    log:
        f"{RESULTS}/logs/evaluate/{{network}}_x{{scale}}_seed{{seed}}_{{which}}.log",
    conda:
        "../../environment.yml"
    resources:
        gpu_share=GPU,
    params:
        data=lambda wildcards: test_sets(wildcards.scale),
        fingerprint=quality_fingerprint(),
    message:
        "Evaluate the {wildcards.which} weights of {wildcards.network} x{wildcards.scale}, seed {wildcards.seed}."
    shell:
        "python -m safmn evaluate --network {wildcards.network} --scale {wildcards.scale} --weights {input.weights:q}"
        " --data {params.data:q} --out {output.scores:q} --record {output.record:q} > {log:q} 2>&1"


rule evaluate_published:
    input:
        weights=lambda wildcards: published_file(wildcards.network, wildcards.scale)
        or [],
        packs=lambda wildcards: packs(TESTED, wildcards.scale),
    output:
        scores=quality_files("{network}", "{scale}", "published"),
        record=f"{RESULTS}/quality/{{network}}/x{{scale}}/published/{RECORD}",
    log:
        f"{RESULTS}/logs/evaluate/{{network}}_x{{scale}}_published.log",
    conda:
        "../../environment.yml"
    resources:
        gpu_share=GPU,
    params:
        weights=lambda wildcards, input: (
            f"--weights {shlex.quote(str(input.weights))}" if input.weights else ""
        ),
        data=lambda wildcards: test_sets(wildcards.scale),
        fingerprint=quality_fingerprint(),
    message:
        "Evaluate the published weights of {wildcards.network} x{wildcards.scale}."
    shell:
        "python -m safmn evaluate --network {wildcards.network} --scale {wildcards.scale} {params.weights}"
        " --data {params.data:q} --out {output.scores:q} --record {output.record:q} > {log:q} 2>&1"


rule evaluate_legacy:
    input:
        packs=lambda wildcards: packs(TESTED, wildcards.scale),
    output:
        scores=quality_files("bicubic", "{scale}", "legacy"),
        record=f"{RESULTS}/quality/bicubic/x{{scale}}/legacy/{RECORD}",
    log:
        f"{RESULTS}/logs/evaluate/bicubic_x{{scale}}_legacy.log",
    conda:
        "../../environment.yml"
    params:
        data=lambda wildcards: test_sets(wildcards.scale),
        fingerprint=quality_fingerprint(),
    message:
        "Evaluate bicubic x{wildcards.scale} by the older protocol, which Table 1's first row follows."
    shell:
        "python -m safmn evaluate --network bicubic --scale {wildcards.scale} --protocol legacy"
        " --data {params.data:q} --out {output.scores:q} --record {output.record:q} > {log:q} 2>&1"
