"""What a trained policy can do: play, be evaluated elsewhere, be filmed."""
