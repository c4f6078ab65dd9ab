"""The paper's numbers beside the measured ones: cells, verdicts, tables."""
