"""What is said: the messages, the topics and the pipeline file that all services share."""
