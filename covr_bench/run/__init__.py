"""What happens: the plan, its cost, and one run from its first step to its last."""
