"""Training: decides whether to retrain, fits, checks and announces models."""
