"""Looking inside networks: what Figures 2, 5 and 6 of the paper show, computed from weights and one or a few images.

`subjects` says which networks are inspected, `scenes` where. `attribution`, `features` and `crops` compute one figure
each. `record` writes the results to files, which `safmn.report.figures` draws.
"""
