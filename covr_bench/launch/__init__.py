"""Where runs are executed: launchers, and what stops them."""
