# Report: joins all results with the paper's numbers. Works with an unfinished study, too.

from glob import glob

FIGURES = ["figure1", "figure2", "figure5", "figure6", "figure7"]
NUMBERS = ["figure2", "figure6"]  # figures whose numbers are written, too
if study.training:
    FIGURES += ["differences", "order", *(f"curves_x{scale}" for scale in study.scales)]
    NUMBERS += ["differences", "order"]
SWEEPS = [f"sweep_{name}" for name in study.sweeps] if study.training else []


rule tables:
    input:
        # Not `rules.memory.output`: Snakemake would hash the whole list of `quality` for each file in it.
        complexity=jobs.at(layout.cost("complexity")),
        memory=jobs.at(layout.cost("memory")),
        times=TIMES,
        quality=[
            path
            for run in study.runs()
            for which in ("best", "last")
            for path in jobs.scores(
                run.variant, run.scale, layout.trained(run.seed, which)
            )
        ],
        published=jobs.published_scores(),
        inspection=[f"{stem}.json" for stem in jobs.inspected()],
    output:
        cells=jobs.at(layout.CELLS),
        networks=jobs.at(layout.NETWORKS),
        tables=[
            report(
                jobs.at(layout.table(number, form)),
                category=f"Table {number}",
                labels={"table": str(number), "format": form},
                caption="../report/table.rst",
            )
            for number in (1, 2, 3, 4, 5)
            for form in layout.FORMS
        ],
        ablation=[
            report(
                jobs.at(layout.table("ablation", form)),
                category="Ablation",
                caption="../report/ablation.rst",
            )
            for form in layout.FORMS
        ],
        own_tables=[
            report(
                jobs.at(layout.table(name, form)),
                category="Own tables",
                caption="../report/ablation.rst",
            )
            for name in study.own_tables
            for form in layout.FORMS
        ],
        claims=[
            report(
                jobs.at(layout.table("claims", form)),
                category="Claims",
                caption="../report/claims.rst",
            )
            for form in ("md", "csv")
        ],
        figures=[
            report(
                jobs.at(layout.figure(name, form)),
                category="Figures",
                caption="../report/figure.rst",
            )
            for name in [*FIGURES, *SWEEPS]
            for form in layout.PICTURES
        ],
        figure_numbers=[
            report(
                jobs.at(layout.figure(name, "csv")),
                category="Figures",
                caption="../report/figure.rst",
            )
            for name in [*NUMBERS, *SWEEPS]
        ],
        page=report(
            jobs.at(layout.PAGE), category="Report", caption="../report/page.rst"
        ),
        provenance=jobs.at(layout.PROVENANCE),
        # Only this rule makes it; each start of Snakemake takes it away.
        finished=touch(jobs.at(layout.FINISHED)),
    log:
        jobs.at(layout.log("tables")),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        study=STUDY,
        fingerprint=digest(study.content),
        labels=digest(jobs.labels),
    message:
        "Render the tables, figures and the page."
    shell:
        "python -m safmn tables --study {params.study:q} > {log:q} 2>&1"


# Over all studies whose cells lie beside this one's; not part of a study, so `snakemake overview` asks for it.
rule overview:
    input:
        sorted({jobs.at(layout.CELLS), *glob(f"results/*/{layout.CELLS}")}),
    output:
        expand(f"results/{layout.OVERVIEW}.{{form}}", form=["md", "html", "csv"]),
    log:
        jobs.at(layout.log("overview")),
    localrule: True
    conda:
        "../../environment.yml"
    params:
        folders=lambda wildcards, input: [os.path.dirname(file) for file in input],
        stem=subpath(output[0], strip_suffix=".md"),
    message:
        "Render the best evidence of all studies on each published cell."
    shell:
        "python -m safmn overview {params.folders:q} --out {params.stem:q} > {log:q} 2>&1"
