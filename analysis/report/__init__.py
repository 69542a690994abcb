"""The report: one self-contained HTML page with what was measured and the commands that measure it again."""
