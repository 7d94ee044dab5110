"""What a person runs: the command line, the local Kafka, the demo and the simulator."""
