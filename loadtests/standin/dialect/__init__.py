"""vLLM 0.32's words: what every endpoint answers, as byte templates. No IO, no clock."""
