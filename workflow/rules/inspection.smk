# Inspection: what Figures 2, 5 and 6 show, network by network, computed from weights and images of the test sets.

STEM = jobs.at(layout.inspection("{network}", "{scale}", "{weights}"))


rule inspect:
    input:
        weights=lambda wildcards: jobs.inspected_weights(
            wildcards.network, int(wildcards.scale), wildcards.weights
        ),
        packed=lambda wildcards: jobs.packed(
            [scene["test"] for scene in jobs.scenes], wildcards.scale
        ),
    output:
        numbers=f"{STEM}.json",
        pictures=f"{STEM}.npz",
    log:
        jobs.at(layout.log("inspect", "{network}_x{scale}_{weights}")),
    wildcard_constraints:
        weights="published|seed[0-9]+_best",
    conda:
        "../../environment.yml"
    resources:
        gpu_share=GPU,
    params:
        weights=lambda wildcards, input: weights_option(input.weights),
        scenes=lambda wildcards: jobs.scene_options(wildcards.scale),
        settings=" ".join(
            f"--{name} {getattr(study.figures, name)}"
            for name in ("crop", "window", "patch", "sigma", "steps", "block")
        ),
        fingerprint=lambda wildcards: jobs.inspection(wildcards.network),
    message:
        "Inspect {wildcards.network} x{wildcards.scale}, {wildcards.weights}, for Figures 2, 5 and 6."
    shell:
        "python -m safmn inspect --network {wildcards.network} --scale {wildcards.scale} {params.weights} {params.scenes}"
        " {params.settings} --out {output.numbers:q} > {log:q} 2>&1"
