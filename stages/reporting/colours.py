"""Colours of plots and pages."""

Colour = tuple[int, int, int]  # red, green, blue
