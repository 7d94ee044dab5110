"""Features and the label join, without their transport."""
