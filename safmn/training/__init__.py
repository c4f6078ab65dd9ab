"""Training as in Section 4.1: loss, schedule, step, average, validation, collapse, state, and the loop around them."""
