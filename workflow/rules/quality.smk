# Quality: PSNR-Y and SSIM-Y of every image of every test set, for best and last weights alike.


def quality_files(network, scale, weights):
    """One CSV a test set."""
    return [
        f"{RESULTS}/quality/{network}/x{scale}/{weights}/{sources.parse_selection(text)[0]}.csv"
        for text in study.data["test"]
    ]


def test_sets(scale):
    """The packed test sets, with the part of each that the study tests on."""
    chosen = [(text, sources.parse_selection(text)[0]) for text in study.data["test"]]
    return [f"{RESULTS}/data/{name}/x{scale}{text.removeprefix(name)}" for text, name in chosen]


def published_quality():
    """The networks of Table 1 whose weights are at hand, and bicubic, which needs none."""
    found = []
    for name in study.networks:
        for scale in study.scales:
            if scale in networks.info(name).scales and (name == "bicubic" or published_file(name, scale)):
                found += quality_files(name, scale, "published")
    return found


def published_file(network, scale):
    """The authors' file of a network, or None."""
    from safmn.networks import published_weights

    return published_weights.at_hand(network, int(scale), study.content["weights"]["root"])


rule evaluate:
    message:
        "Evaluate the {wildcards.which} weights of {wildcards.network} x{wildcards.scale}, seed {wildcards.seed}."
    input:
        weights=f"{RESULTS}/training/{{network}}/x{{scale}}_seed{{seed}}/{{which}}.safetensors",
        packs=lambda wildcards: packs(("test",), wildcards.scale),
    output:
        quality_files("{network}", "{scale}", "seed{seed}_{which}"),
    params:
        data=lambda wildcards: test_sets(wildcards.scale),
        fingerprint=quality_fingerprint(),
    resources:
        gpu=GPU,
    log:
        f"{RESULTS}/logs/evaluate/{{network}}_x{{scale}}_seed{{seed}}_{{which}}.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m safmn evaluate --network {wildcards.network} --scale {wildcards.scale} --weights {input.weights:q}"
        " --data {params.data:q} --out {output:q} > {log:q} 2>&1"


rule evaluate_published:
    message:
        "Evaluate the published weights of {wildcards.network} x{wildcards.scale}."
    input:
        weights=lambda wildcards: published_file(wildcards.network, wildcards.scale) or [],
        packs=lambda wildcards: packs(("test",), wildcards.scale),
    output:
        quality_files("{network}", "{scale}", "published"),
    params:
        weights=lambda wildcards, input: f"--weights {shlex.quote(str(input.weights))}" if input.weights else "",
        data=lambda wildcards: test_sets(wildcards.scale),
        fingerprint=quality_fingerprint(),
    resources:
        gpu=GPU,
    log:
        f"{RESULTS}/logs/evaluate/{{network}}_x{{scale}}_published.log",
    conda:
        "../../environment.yml"
    shell:
        "python -m safmn evaluate --network {wildcards.network} --scale {wildcards.scale} {params.weights}"
        " --data {params.data:q} --out {output:q} > {log:q} 2>&1"
