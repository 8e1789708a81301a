"""The hard set: crowds, contact, fast pans, cameras in the hand, backs, near twins, 10 frames a second."""
