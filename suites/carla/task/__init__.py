"""The driving task: a Gymnasium environment whose world is a CARLA server."""
