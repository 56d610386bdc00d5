"""The value of a pixel that has no class."""

VOID = 255  # in masks, label maps and answers, in memory and on disk, whatever a dataset's own files use
