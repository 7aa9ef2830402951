"""The commands: each module parses its options, calls one function of the core, and prints what came back.

Heavy modules are imported inside the command functions, so that `--help` answers at once.
"""
