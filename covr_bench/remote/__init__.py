"""Stores elsewhere: whole runs to and from any URL that fsspec knows, complete or not there."""
