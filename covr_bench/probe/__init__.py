"""The probe: an agent's first actions and updates, computed exactly, so that two programs can be held side by side."""
