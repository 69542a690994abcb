"""Who else hears of a run: trackers read its rows and cannot stop it."""
