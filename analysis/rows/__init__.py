"""From rows to scores, and what must be said of them."""
