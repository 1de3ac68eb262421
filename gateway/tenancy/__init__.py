"""Who is asking, what they may ask for, and how much of it: keys, access, limits and budgets.

keys          the API key of a request -> the tenant's key, or 401
access        may this key use this model, adapter or endpoint, or 403
reservation   how much to hold for a request before it is known what it uses
limits        the contract of admission: one lease per request, settled once
limiter       that contract for one process; shared: for one of several, with a store (far) between them
purse         a tenant's accounts in this process; allotment: what is held of one, and the hot path; pace: how
              much is likely to be needed
book          the account itself, which processes share; budget: the periods of money
refusals      what a tenant reads when a limit says no; ratelimit_headers: and with every answer
"""
