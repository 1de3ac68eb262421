"""Plots as SVG, drawn for a given width so that their texts keep their size on a phone; no IO, no clock, no library."""
