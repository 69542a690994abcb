"""Ways to execute a plan's runs."""
