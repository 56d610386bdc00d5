"""Masks of any images: which images, the network over windows of them, and the files that are written."""
