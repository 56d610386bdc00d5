"""Every row of the published tables at its own image size, cut short: ``make test-published``.

``make estimate`` runs the rows whose training steps have not been measured yet, and writes what they took to
docs/results/published-steps.json, of which docs/reproduce.md derives hours and memory.
"""
