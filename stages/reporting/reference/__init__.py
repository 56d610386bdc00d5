"""The reference pages and the README's table of commands, generated from the registries.

``python -m stages.reporting.reference`` writes them; with ``--check`` it exits 1 if one of them is not current.
"""
