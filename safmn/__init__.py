"""A reproducibility harness for SAFMN (Sun et al., ICCV 2023): train, count, measure, evaluate, compare."""

__version__ = "0.1.0"
