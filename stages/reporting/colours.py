"""Colours of pictures and pages."""

Colour = tuple[int, int, int]  # red, green, blue
