# Quality: PSNR-Y and SSIM-Y of every image of every test set. Beside the CSV files of an evaluation, a JSON file says
# what was evaluated, on which images, where and when.


rule evaluate:
    input:
        best=jobs.at(layout.weights("{network}", "{scale}", "{seed}", "best")),
        last=jobs.at(layout.weights("{network}", "{scale}", "{seed}", "last")),
        packed=lambda wildcards: jobs.packed(jobs.tested, wildcards.scale),
    output:
        best=jobs.scores("{network}", "{scale}", layout.trained("{seed}", "best")),
        last=jobs.scores("{network}", "{scale}", layout.trained("{seed}", "last")),
        best_record=jobs.at(
            layout.evaluation("{network}", "{scale}", layout.trained("{seed}", "best"))
        ),
        last_record=jobs.at(
            layout.evaluation("{network}", "{scale}", layout.trained("{seed}", "last"))
        ),
    log:
        jobs.at(layout.run_log("evaluate", "{network}", "{scale}", "{seed}")),
    conda:
        "../../environment.yml"
    resources:
        gpu_share=GPU,
    params:
        data=lambda wildcards: jobs.test_sets(wildcards.scale),
        fingerprint=lambda wildcards: jobs.evaluation(wildcards.network),
    message:
        "Evaluate the best and the last weights of {wildcards.network} x{wildcards.scale}, seed {wildcards.seed}."
    shell:
        "python -m safmn evaluate --network {wildcards.network} --scale {wildcards.scale} --data {params.data:q}"
        " --weights {input.best:q} --out {output.best:q} --record {output.best_record:q}"
        " then evaluate --network {wildcards.network} --scale {wildcards.scale} --data {params.data:q}"
        " --weights {input.last:q} --out {output.last:q} --record {output.last_record:q} > {log:q} 2>&1"


rule evaluate_published:
    input:
        weights=lambda wildcards: jobs.published_file(
            wildcards.network, int(wildcards.scale)
        )
        or [],
        packed=lambda wildcards: jobs.packed(jobs.tested, wildcards.scale),
    output:
        scores=jobs.scores("{network}", "{scale}", "published"),
        record=jobs.at(layout.evaluation("{network}", "{scale}", "published")),
    log:
        jobs.at(layout.log("evaluate", "{network}_x{scale}_published")),
    conda:
        "../../environment.yml"
    resources:
        gpu_share=GPU,
    params:
        data=lambda wildcards: jobs.test_sets(wildcards.scale),
        fingerprint=lambda wildcards: jobs.evaluation(wildcards.network),
    message:
        "Evaluate the published weights of {wildcards.network} x{wildcards.scale}."
    shell:
        "python -m safmn evaluate --network {wildcards.network} --scale {wildcards.scale} --weights {input.weights:q}"
        " --data {params.data:q} --out {output.scores:q} --record {output.record:q} > {log:q} 2>&1"


ruleorder: evaluate_bicubic > evaluate_published


rule evaluate_bicubic:
    input:
        packed=lambda wildcards: jobs.packed(jobs.tested, wildcards.scale),
    output:
        present=jobs.scores("bicubic", "{scale}", "published"),
        legacy=jobs.scores("bicubic", "{scale}", "legacy"),
        present_record=jobs.at(layout.evaluation("bicubic", "{scale}", "published")),
        legacy_record=jobs.at(layout.evaluation("bicubic", "{scale}", "legacy")),
    log:
        jobs.at(layout.log("evaluate", "bicubic_x{scale}")),
    conda:
        "../../environment.yml"
    params:
        data=lambda wildcards: jobs.test_sets(wildcards.scale),
        fingerprint=jobs.evaluation("bicubic"),
    message:
        "Evaluate bicubic x{wildcards.scale}, by the present protocol and by the legacy one of Table 1's first row."
    shell:
        "python -m safmn evaluate --network bicubic --scale {wildcards.scale} --data {params.data:q}"
        " --out {output.present:q} --record {output.present_record:q}"
        " then evaluate --network bicubic --scale {wildcards.scale} --data {params.data:q} --protocol legacy"
        " --out {output.legacy:q} --record {output.legacy_record:q} > {log:q} 2>&1"
