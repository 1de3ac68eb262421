"""Is what the ledger has, to the token, what the engine has counted?

traffic   requests of every kind through a gateway, some of which leave before their end
books     the ledger and the engine's counters, side by side
site      a real vLLM worker behind a real gateway
"""
