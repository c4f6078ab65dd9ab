"""The commands of `safmn`, one module each, with `HELP`, `EXAMPLES`, `configure(parser)` and `run(args)`."""
