# Cost: what a network needs. Counts and predicted memory need no GPU; times are taken on the device that is there.

TIMED = ["safmn"] + [name for name in study.networks if 2 in networks.info(name).rows]
# All cores on a CPU: a job beside it would be part of what is measured. (`workflow.cores` is unknown to --report.)
TIMING_THREADS = 1 if GPU else os.cpu_count() or 1


rule complexity:
    output:
        f"{RESULTS}/cost/complexity/{{network}}.json",
    log:
        f"{RESULTS}/logs/complexity/{{network}}.log",
    conda:
        "../../environment.yml"
    params:
        scales=lambda wildcards: networks.info(wildcards.network).scales,
        fingerprint=lambda wildcards: cost_fingerprint("complexity", wildcards.network),
    message:
        "Count parameters, FLOPs and activations of {wildcards.network} and compare them with the paper's print."
    shell:
        "python -m safmn complexity {wildcards.network} --scale {params.scales} --check --out {output:q} > {log:q} 2>&1"


rule memory:
    output:
        f"{RESULTS}/cost/memory.json",
    log:
        f"{RESULTS}/logs/memory.log",
    conda:
        "../../environment.yml"
    resources:
        gpu_share=GPU,
    params:
        networks=TIMED,
        fingerprint=digest([cost_fingerprint("memory", name) for name in TIMED]),
    message:
        "Peak memory of inference at x4: predicted, and measured where there is a GPU."
    shell:
        "python -m safmn memory {params.networks} --scale 4 --height 180 --width 320 --measure-if-cuda --out {output:q}"
        " > {log:q} 2>&1"


rule runtime:
    output:
        f"{RESULTS}/cost/runtime.json",
    log:
        f"{RESULTS}/logs/runtime.log",
    conda:
        "../../environment.yml"
    threads: TIMING_THREADS
    resources:
        gpu_share=GPU,
    params:
        networks=TIMED,
        images=study.content["efficiency"]["images"],
        # The other ways are for the GPU; on a CPU they would take hours to say what no table prints.
        modes=study.content["efficiency"]["modes"] if GPU else "eager",
        rounds=study.content["efficiency"]["rounds"],
        processes=study.content["efficiency"]["processes"],
    message:
        "Time the networks of Table 2 in turn on the device that is there, which nobody else may use meanwhile."
    shell:
        "python -m safmn runtime {params.networks} --scale 4 --images {params.images} --modes {params.modes} --rounds {params.rounds} --processes {params.processes}"
        " --out {output:q} > {log:q} 2>&1"


rule operations:
    output:
        f"{RESULTS}/cost/operations.json",
    log:
        f"{RESULTS}/logs/operations.log",
    conda:
        "../../environment.yml"
    threads: TIMING_THREADS
    resources:
        gpu_share=GPU,
    params:
        images=study.content["efficiency"]["images"],
    message:
        "Time the operations of Table 5 inside SAFMN."
    shell:
        "python -m safmn operations --images {params.images} --out {output:q} > {log:q} 2>&1"
