"""The shuffle without its transport: rows, their partitions, their messages, the watermarks of their sources."""
