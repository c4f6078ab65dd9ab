"""Looking inside networks: what Figures 2, 5 and 6 of the paper show, computed from weights and one or a few images.

`subjects` says which networks are looked at, `scenes` where; `attribution`, `features` and `crops` compute, one figure
each; `record` puts what they give into files, which `safmn.report.figures` draws.
"""
