"""Two sets of runs, judged."""
