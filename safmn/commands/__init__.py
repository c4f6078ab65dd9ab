"""One module a command: `HELP`, `EXAMPLES`, `configure(parser)` and `run(args)`."""
