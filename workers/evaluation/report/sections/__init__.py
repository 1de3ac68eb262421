"""The parts of a report, each from the evaluations' own parts; a part that nobody measured is left out."""
