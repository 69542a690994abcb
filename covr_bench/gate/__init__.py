"""The gate: an agent's code against a reference, cheap questions first."""
