"""`headrace demo`: the whole loop on a real Kafka, from one command, with four changes of the world on the way."""
