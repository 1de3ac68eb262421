"""Quantized versions held against their unquantized reference: what is measured, judged and shown."""
