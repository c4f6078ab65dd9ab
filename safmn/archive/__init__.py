"""A study as an archive that can be kept or passed on."""
