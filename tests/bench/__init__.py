"""The benchmarks behind docs/benchmarks.md: ``python -m tests.bench``. Not tests; nothing fails for being slow."""
