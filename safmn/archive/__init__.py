"""A study as an archive to keep or to pass on."""
