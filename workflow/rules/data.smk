# Data: each dataset decoded once into a packed store.


rule pack:
    input:
        images=images,
    output:
        index=f"{RESULTS}/data/{{dataset}}/x{{scale}}/index.json",
        pixels=f"{RESULTS}/data/{{dataset}}/x{{scale}}/pixels.u8",
    log:
        f"{RESULTS}/logs/pack/{{dataset}}_x{{scale}}.log",
    conda:
        "../../environment.yml"
    params:
        root=(
            f"--data-root {shlex.quote(study.data['root'])}"
            if study.data["root"]
            else ""
        ),
        own=lambda wildcards: own_folder(wildcards.dataset),
        folder=subpath(output.index, parent=True),
    message:
        "Pack {wildcards.dataset} at x{wildcards.scale}: HR and LR as uint8, LR made where it is missing."
    shell:
        "python -m safmn pack {wildcards.dataset:q} --scale {wildcards.scale} {params.root} {params.own} --out {params.folder:q}"
        " > {log:q} 2>&1"
