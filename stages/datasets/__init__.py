"""Datasets: the description of one, its files, their decoding and resizing, and the built-in synthetic scenes."""
