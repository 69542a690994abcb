"""An embedded CARLA server: it speaks the wire protocol of CARLA to the real client library."""
