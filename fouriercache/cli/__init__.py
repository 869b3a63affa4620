"""The command line. Progress goes to stderr, the result to stdout; `--json` makes the result JSON and nothing else.

A command is a file with a function of its name and its examples; `app` lists them in the order of the help, and reads
one when it runs.
"""

from fouriercache.cli.app import app, main

__all__ = ["app", "main"]
