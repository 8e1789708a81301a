"""Drawing tracks over frames."""
