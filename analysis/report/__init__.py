"""The report: one HTML page with everything in it, that shows what was measured and how to measure it again."""
