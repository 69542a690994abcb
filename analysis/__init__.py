"""What it means: scores, tables and plots from the rows of `results.store`; needs neither torch nor a simulator."""
