"""Who is asking, what they may ask for, and how much of it: keys, access, limits and budgets.

keys       the API key of a request -> the tenant's key, or 401
access     may this key use this model, adapter or endpoint, or 403
limits     the contract of admission: one lease per request, settled once
memory     that contract for one process
gcra, token_meter, spending    the arithmetic of each limit: explicit state, the clock as argument, no IO
"""
