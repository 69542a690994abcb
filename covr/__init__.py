"""The COVR method: a vision-language model and an RL agent that improve each other."""
