# Cost: what a network needs. Counts and predicted memory need no GPU; times are measured on the available device.

# All cores on a CPU: a job beside it would be part of what is measured. (`workflow.cores` is unknown to --report.)
TIMING_THREADS = 1 if GPU else os.cpu_count() or 1
# Without a GPU, the study says whether a CPU is timed. On a cluster, the profile says which jobs get a GPU.
TIMES = (
    [jobs.at(layout.cost("runtime")), jobs.at(layout.cost("operations"))]
    if study.efficiency.cpu or GPU or CLUSTER
    else []
)


# One job for all networks, since a count takes less time than the start of a process. The networks' own files are not
# declared as outputs: a failed job would delete them all. A network that did not change is not counted again.
rule complexity:
    output:
        jobs.at(layout.cost("complexity")),
    log:
        jobs.at(layout.log("complexity")),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        networks=list(jobs.counts),
        folder=subpath(output[0], strip_suffix=".json"),
        fingerprint=digest(jobs.counts),
    message:
        "Count parameters, FLOPs and activations of all networks and compare them with the published values."
    shell:
        "python -m safmn complexity {params.networks} --scale all --check --keep --out {params.folder:q}"
        " --record {output:q} > {log:q} 2>&1"


rule memory:
    output:
        jobs.at(layout.cost("memory")),
    log:
        jobs.at(layout.log("memory")),
    conda:
        "../../environment.yml"
    resources:
        gpu_share=GPU,
    params:
        networks=study.timed,
        fingerprint=jobs.memory(),
    message:
        "Peak memory of inference at x4: predicted, and measured where there is a GPU."
    shell:
        "python -m safmn memory {params.networks} --scale 4 --height 180 --width 320 --measure-if-cuda --out {output:q}"
        " > {log:q} 2>&1"


rule runtime:
    output:
        jobs.at(layout.cost("runtime")),
    log:
        jobs.at(layout.log("runtime")),
    conda:
        "../../environment.yml"
    threads: TIMING_THREADS
    resources:
        gpu_share=GPU,
    params:
        **jobs.own_code(),
        networks=study.timed,
        images=study.efficiency.images,
        # The other modes are for a GPU; on a CPU they would take hours, and no table shows them.
        modes=study.efficiency.modes if GPU else "eager",
        rounds=study.efficiency.rounds,
        processes=study.efficiency.processes,
    message:
        "Time the networks of Table 2 in turn on the available device, which no other job may use meanwhile."
    shell:
        "python -m safmn runtime {params.networks} --scale 4 --images {params.images} --modes {params.modes} --rounds {params.rounds} --processes {params.processes}"
        " --out {output:q} > {log:q} 2>&1"


rule operations:
    output:
        jobs.at(layout.cost("operations")),
    log:
        jobs.at(layout.log("operations")),
    conda:
        "../../environment.yml"
    threads: TIMING_THREADS
    resources:
        gpu_share=GPU,
    params:
        images=study.efficiency.images,
    message:
        "Time the operations of Table 5 inside SAFMN."
    shell:
        "python -m safmn operations --images {params.images} --out {output:q} > {log:q} 2>&1"
