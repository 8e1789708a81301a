"""Training data and losses: sources of labelled clips, samples cut from them, their mixture, and what is minimised."""
