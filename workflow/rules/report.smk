# Report: a join of everything above with the paper's numbers. Renders from a half-finished study, too.


FIGURES = ["figure1", "figure2", "figure5", "figure6", "figure7"]
if study.training:
    FIGURES += [f"curves_x{scale}" for scale in study.scales]


rule tables:
    input:
        complexity=expand(
            f"{RESULTS}/cost/complexity/{{network}}.json",
            network=[*study.variants, *study.networks],
        ),
        memory=rules.memory.output,
        runtime=rules.runtime.output,
        operations=rules.operations.output,
        quality=[
            path
            for run in study.runs()
            for which in ("best", "last")
            for path in quality_files(
                run.variant, run.scale, f"seed{run.seed}_{which}"
            )
        ],
        published=published_quality(),
        inspection=[f"{RESULTS}/{subject.stem}.json" for subject in inspected()],
    output:
        cells=f"{RESULTS}/cells.csv",
        tables=[
            report(
                f"{RESULTS}/tables/table{number}.{form}",
                category=f"Table {number}",
                labels={"table": str(number), "format": form},
                caption="../report/table.rst",
            )
            for number in (1, 2, 3, 4, 5)
            for form in ("md", "csv", "tex")
        ],
        claims=[
            report(
                f"{RESULTS}/tables/claims.{form}",
                category="Claims",
                caption="../report/claims.rst",
            )
            for form in ("md", "csv")
        ],
        figures=[
            report(
                f"{RESULTS}/figures/{name}.{form}",
                category="Figures",
                caption="../report/figure.rst",
            )
            for name in FIGURES
            for form in ("svg", "png")
        ],
        figure_numbers=[
            report(
                f"{RESULTS}/figures/{name}.csv",
                category="Figures",
                caption="../report/figure.rst",
            )
            for name in ("figure2", "figure6")
        ],
        page=report(
            f"{RESULTS}/report.html", category="Report", caption="../report/page.rst"
        ),
        provenance=f"{RESULTS}/provenance.json",
        # Only this rule makes it; see onerror.
        finished=touch(FINISHED),
    log:
        f"{RESULTS}/logs/tables.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        study=STUDY,
        fingerprint=digest(study.content),
    message:
        "Render the tables, figures and the page."
    shell:
        "python -m safmn tables --study {params.study:q} > {log:q} 2>&1"
