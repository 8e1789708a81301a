"""How accurate labels are: rendered clips are labeled, and the labels compared with the exact ground truth."""
