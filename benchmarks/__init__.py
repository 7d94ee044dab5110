"""Side by side with what a user would pick instead; each prints a table, with --json one object."""
