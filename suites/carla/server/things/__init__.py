"""What the world consists of: blueprints, actors, their bodies and the traffic lights."""
