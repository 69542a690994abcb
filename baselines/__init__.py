"""Every agent but COVR: one file each, the file's name is the agent's."""
