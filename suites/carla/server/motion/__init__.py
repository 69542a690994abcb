"""How things move and meet: vehicle dynamics, collisions, traffic, and the ways of pedestrians."""
