"""Truth by construction: clips of dressed bodies in rooms, drawn here, with every surface point known."""
