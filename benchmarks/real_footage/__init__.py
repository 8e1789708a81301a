"""Truth in real footage: two calibrated views of one person, markers on the skin, masks of another network."""
