"""Quantized versions of a checkpoint: what can be asked for, what is refused, how it is done and what is recorded."""
