"""What the soft actor-critic family shares: networks, the steps of an update, the agent, its auxiliary losses."""
