"""How each engine is started: pure functions from the configuration to a command line, an environment and a probe."""
