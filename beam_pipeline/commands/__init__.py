"""The command line's commands: of each, `USAGE` is what --help prints, `run(arguments)` gives the exit status."""
