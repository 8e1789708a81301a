"""Training data and losses: sources of labeled clips, samples cut from them, their mixture, and what is minimized."""
