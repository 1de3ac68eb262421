"""Which worker should answer: pure decisions over what is asked and what is known.

`names` turns what a client asks for into a route with candidates, `filters` drop workers with a reason each, `scorers`
predict seconds and dollars for those that are left, `router` puts them in order: a plan. `retry` says how much of the
traffic may be second attempts. Clock and randomness come in as arguments.
"""
