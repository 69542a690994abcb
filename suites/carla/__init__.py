"""Driving on CARLA: an embedded server that speaks the wire protocol of CARLA, and the tasks that use it."""
