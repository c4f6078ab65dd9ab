"""Training as in Section 4.1: loss, schedule, step, average, validation, collapse, saved states and the loop."""
