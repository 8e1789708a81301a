"""How accurate the labels of real videos are: two synchronized views, skin markers, masks of another network."""
