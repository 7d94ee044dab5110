"""The command `headrace dead-letters`: what was refused and why, and the way back for it."""
