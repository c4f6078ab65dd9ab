"""The machine: description of its device, lease of a device, allocation of memory."""
