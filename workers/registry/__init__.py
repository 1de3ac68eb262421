"""Artifacts known by their content: what an artifact's digest is, where registered ones lie, what is known of each."""
