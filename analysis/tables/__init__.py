"""Final scores as tables, agents by tasks."""
