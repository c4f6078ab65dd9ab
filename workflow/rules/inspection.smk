# Inspection: what Figures 2, 5 and 6 show, network by network, computed from weights and images of the test sets.


rule inspect:
    input:
        weights=inspected_weights,
        packs=lambda wildcards: packs(
            [scene["test"] for scene in SCENES], wildcards.scale
        ),
    output:
        numbers=f"{RESULTS}/inspection/{{network}}/x{{scale}}/{{weights}}.json",
        pictures=f"{RESULTS}/inspection/{{network}}/x{{scale}}/{{weights}}.npz",
    log:
        f"{RESULTS}/logs/inspect/{{network}}_x{{scale}}_{{weights}}.log",
    wildcard_constraints:
        weights="published|seed[0-9]+_best",
    conda:
        "../../environment.yml"
    resources:
        gpu_share=GPU,
    params:
        weights=lambda wildcards, input: (
            f"--weights {shlex.quote(str(input.weights))}" if input.weights else ""
        ),
        scenes=lambda wildcards: scene_options(wildcards.scale),
        settings=" ".join(
            f"--{name} {study.content['figures'][name]}"
            for name in ("crop", "window", "patch", "sigma", "steps", "block")
        ),
        fingerprint=lambda wildcards: inspection_fingerprint(wildcards.network),
    message:
        "Look into {wildcards.network} x{wildcards.scale}, {wildcards.weights}, for Figures 2, 5 and 6."
    shell:
        "python -m safmn inspect --network {wildcards.network} --scale {wildcards.scale} {params.weights} {params.scenes}"
        " {params.settings} --out {output.numbers:q} > {log:q} 2>&1"
