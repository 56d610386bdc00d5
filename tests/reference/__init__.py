"""The generator behind docs/reference: ``python -m tests.reference``. Not tests.

It writes docs/reference and the README's table of commands from the registries; with ``--check`` it writes nothing and
exits 1 if one of them is not current. It describes the program, so it lies outside `stages`, which know no program.
"""
