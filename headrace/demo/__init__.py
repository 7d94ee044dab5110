"""`headrace demo`: the whole loop on a real Kafka, from one command, with a change of the world in the middle."""
