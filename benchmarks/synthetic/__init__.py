"""Rendered clips of clothed bodies in rooms, in which the position of every surface point is known."""
