"""Two sets of runs, A and B, compared and judged."""
