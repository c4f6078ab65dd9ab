# Data: downloaded if the study says so and it is nowhere else, and each dataset decoded once into a packed store.
# The downloads are jobs of the machine where Snakemake runs: a cluster's compute nodes rarely reach the web.


for source, wanted in TO_FETCH.items():

    rule:
        name:
            f"fetch_{source}"
        output:
            [marker(name, scale) for name, scales in wanted.items() for scale in scales],
        log:
            f"{RESULTS}/logs/fetch/{source}.log",
        # The command has its own patience with bad connections; a wrong checksum does not pass by itself.
        retries: 0
        localrule: True
        conda:
            "../../environment.yml"
        resources:
            room_for=" ".join(FETCHED),
        params:
            names=list(wanted),
            scales=sorted({scale for scales in wanted.values() for scale in scales}),
            to=subpath(output[0], ancestor=3),
            record=subpath(output[0], parent=True),
        message:
            "Download {params.names} into {params.to}, verified; what is there already is used."
        # All that the study downloads must fit on the disk before the first byte of any of it is asked for. What the
        # others need is no parameter: it does not make these images out of date.
        shell:
            "python -m safmn fetch {params.names} $(printf ' --scale %s' {params.scales}) --to {params.to:q}"
            " --record {params.record:q} --room-for {resources.room_for} 2>&1 | tee {log:q}"


if FETCHED_WEIGHTS:

    rule fetch_weights:
        output:
            f"{WEIGHTS}/{{weights}}",
        log:
            f"{RESULTS}/logs/fetch/{{weights}}.log",
        wildcard_constraints:
            weights="|".join(map(re.escape, FETCHED_WEIGHTS)),
        # As above.
        retries: 0
        localrule: True
        conda:
            "../../environment.yml"
        params:
            network=lambda wildcards: FETCHED_WEIGHTS[wildcards.weights][0],
            scale=lambda wildcards: FETCHED_WEIGHTS[wildcards.weights][1],
            to=subpath(output[0], parent=True),
        message:
            "Download the published weights of {params.network}, verified."
        shell:
            "python -m safmn fetch {params.network} --weights --scale {params.scale} --to {params.to:q} 2>&1 | tee {log:q}"


# On the machine with the network: `snakemake --cores 4 fetch`. The other jobs need none.
rule fetch:
    input:
        [
            marker(name, scale)
            for source in TO_FETCH.values()
            for name, scales in source.items()
            for scale in scales
        ],
        [WEIGHTS / name for name in FETCHED_WEIGHTS],
    localrule: True
    message:
        "All that the study downloads is there."


rule pack:
    input:
        images=images,
    output:
        index=f"{RESULTS}/data/{{dataset}}/x{{scale}}/index.json",
        pixels=f"{RESULTS}/data/{{dataset}}/x{{scale}}/pixels.u8",
        manifest=f"{RESULTS}/data/{{dataset}}/x{{scale}}/manifest.json",
    log:
        f"{RESULTS}/logs/pack/{{dataset}}_x{{scale}}.log",
    conda:
        "../../environment.yml"
    params:
        where=lambda wildcards: where(wildcards.dataset),
        folder=subpath(output.index, parent=True),
        fingerprint=pack_fingerprint(),
    message:
        "Pack {wildcards.dataset} at x{wildcards.scale}: HR and LR as uint8, LR made where it is missing."
    shell:
        "python -m safmn pack {wildcards.dataset:q} --scale {wildcards.scale} {params.where} --out {params.folder:q}"
        " > {log:q} 2>&1"
