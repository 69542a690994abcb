"""The door: the verbs of `covr-bench`, each with its options beside its work."""
