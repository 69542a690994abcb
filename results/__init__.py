"""What was measured: the rows of every run, and where each run came from."""
