"""The demo models: what they learn from, how they are trained and where the trained checkpoints are kept."""
