"""Any image-text-to-text model of transformers: found by what it can do, not by a list of names."""
