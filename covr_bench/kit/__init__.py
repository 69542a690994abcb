"""The contract between agents and the machine: all of it that an agent may import."""
