"""From stored rows to scores, and the remarks that belong to them."""
