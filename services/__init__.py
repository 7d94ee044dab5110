"""Who does what: five independent services that talk only through Kafka."""
