"""Weights of other code: reading their files without running code, and renaming their tensors by tables."""
