"""The machine: what it is, who may use which device, and how memory is allocated."""
