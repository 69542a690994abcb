"""How long runs will take and how much disk they need: measured once per machine, then remembered."""
