"""What a name and a setting mean: agents, suites and budgets by name, settings resolved once."""
