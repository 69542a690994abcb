"""Statistics of scores, with intervals."""
