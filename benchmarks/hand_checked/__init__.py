"""Points in real clips whose places were looked at by eye; see `__main__`."""
