"""Image files that others made: opening them safely, windows of large ones, bands, levels and pages."""
