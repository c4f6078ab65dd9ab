# Cost: what a network needs. Counts and predicted memory need no GPU; times are taken on the device that is there.

TIMED = ["safmn"] + [name for name in study.networks if 2 in networks.info(name).rows]


rule complexity:
    message:
        "Count parameters, FLOPs and activations of {wildcards.network} and compare them with the paper's print."
    output:
        f"{RESULTS}/cost/complexity/{{network}}.json",
    params:
        scales=lambda wildcards: networks.info(wildcards.network).scales,
        fingerprint=lambda wildcards: cost_fingerprint("complexity", wildcards.network),
    log:
        f"{RESULTS}/logs/complexity/{{network}}.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m safmn complexity {wildcards.network} --scale {params.scales} --check --out {output:q} > {log:q} 2>&1"


rule memory:
    message:
        "Peak memory of inference at x4: predicted, and measured where there is a GPU."
    output:
        f"{RESULTS}/cost/memory.json",
    params:
        networks=TIMED,
        fingerprint=digest([cost_fingerprint("memory", name) for name in TIMED]),
    resources:
        gpu=GPU,
    log:
        f"{RESULTS}/logs/memory.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m safmn memory {params.networks} --scale 4 --height 180 --width 320 --measure-if-cuda --out {output:q}"
        " > {log:q} 2>&1"


rule runtime:
    message:
        "Time the networks of Table 2 in turn on the device that is there, which nobody else may use meanwhile."
    output:
        f"{RESULTS}/cost/runtime.json",
    params:
        networks=TIMED,
        images=study.content["efficiency"]["images"],
        rounds=study.content["efficiency"]["rounds"],
        processes=study.content["efficiency"]["processes"],
    # All cores on a CPU: a job beside it would be part of what is measured.
    threads: 1 if GPU else workflow.cores
    resources:
        gpu=GPU,
    log:
        f"{RESULTS}/logs/runtime.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m safmn runtime {params.networks} --scale 4 --images {params.images} --rounds {params.rounds} --processes {params.processes}"
        " --out {output:q} > {log:q} 2>&1"


rule operations:
    message:
        "Time the operations of Table 5 inside SAFMN."
    output:
        f"{RESULTS}/cost/operations.json",
    params:
        images=study.content["efficiency"]["images"],
    threads: 1 if GPU else workflow.cores
    resources:
        gpu=GPU,
    log:
        f"{RESULTS}/logs/operations.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m safmn operations --images {params.images} --out {output:q} > {log:q} 2>&1"
