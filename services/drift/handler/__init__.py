"""The two handlers of drift: the counter of each partition, and the judge of them all."""
