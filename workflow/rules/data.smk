# Data: downloaded if the study says so and it is not available, then each dataset is decoded once into a packed dataset.
# Downloads run where Snakemake runs: a cluster's compute nodes rarely reach the web.


for source, wanted in jobs.to_fetch.items():

    rule:
        name:
            f"fetch_{source}"
        output:
            jobs.markers(source),
        log:
            jobs.at(layout.log("fetch", source)),
        # The command tries again by itself on a bad connection; a wrong checksum stays wrong.
        retries: 0
        localrule: True
        conda:
            "../../environment.yml"
        resources:
            room_for=" ".join(jobs.fetched),
        params:
            names=list(wanted),
            scales=sorted({scale for scales in wanted.values() for scale in scales}),
            to=subpath(output[0], ancestor=3),
            record=subpath(output[0], parent=True),
        message:
            "Download {params.names} into {params.to}, verified; images that are already there are used."
        # Before the first byte, the disk must have room for all that the study downloads. What the other jobs need is
        # a resource and no parameter, so that it does not make these images out of date.
        shell:
            "python -m safmn fetch {params.names} $(printf ' --scale %s' {params.scales}) --to {params.to:q}"
            " --record {params.record:q} --room-for {resources.room_for} 2>&1 | tee {log:q}"


if jobs.fetched_weights:

    rule fetch_weights:
        output:
            f"{study.weights_roots[-1]}/{{weights}}",
        log:
            jobs.at(layout.log("fetch", "{weights}")),
        wildcard_constraints:
            weights="|".join(map(re.escape, jobs.fetched_weights)),
        # As above.
        retries: 0
        localrule: True
        conda:
            "../../environment.yml"
        params:
            network=lambda wildcards: jobs.fetched_weights[wildcards.weights][0],
            scale=lambda wildcards: jobs.fetched_weights[wildcards.weights][1],
            to=subpath(output[0], parent=True),
        message:
            "Download the published weights of {params.network}, verified."
        shell:
            "python -m safmn fetch {params.network} --weights --scale {params.scale} --to {params.to:q} 2>&1 | tee {log:q}"


# To be run on a machine with a network: `snakemake --cores 4 fetch`. The other jobs need none.
rule fetch:
    input:
        jobs.markers(),
        [study.weights_roots[-1] / name for name in jobs.fetched_weights],
    localrule: True
    message:
        "All downloads of the study are complete."


rule pack:
    input:
        images=lambda wildcards: jobs.images(wildcards.dataset, int(wildcards.scale)),
    output:
        multiext(
            jobs.at(layout.packed("{dataset}", "{scale}")) + "/",
            index=layout.INDEX,
            pixels=layout.PIXELS,
            manifest=layout.MANIFEST,
        ),
    log:
        jobs.at(layout.log("pack", "{dataset}_x{scale}")),
    # With SNAKEMAKE_OUTPUT_CACHE and --cache, other studies use what this one has packed: see docs/sharing.md.
    cache: True
    conda:
        "../../environment.yml"
    params:
        where=lambda wildcards: jobs.where(wildcards.dataset),
        fingerprint=jobs.packing,
        # The cache's key has the parameters, not the wildcards. Since it takes `output`, no record depends on it.
        what=lambda wildcards, output: f"{wildcards.dataset} x{wildcards.scale}",
    message:
        "Pack {wildcards.dataset} at x{wildcards.scale}: HR and LR as uint8, LR made where it is missing."
    shell:
        "python -m safmn pack {wildcards.dataset:q} --scale {wildcards.scale} {params.where}"
        ' --out "$(dirname {output.index:q})" > {log:q} 2>&1'
