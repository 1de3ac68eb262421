"""Whose worker time it was: the cost of every worker and window shared out among those it worked for, exactly.

model      Coefficients: the seconds that each kind of work takes
visit      Visit: an attempt as the engine had it
work       what visits were to a worker within a window
game       what they are to pay: the step that requests share, and time that would have passed anyway
fit        coefficients from what was seen
split      a window's cost among lines, to the nano-USD
timeline   a worker's time, from readings: what is billed, at which rate, seen by somebody or not
lines      SQL: lines and labels of the bill
load       SQL: readings, visits
bill       SQL: windows, shares, allocations, fits
job        attribute(): closes what can be closed, and opens again what was closed too early
"""
