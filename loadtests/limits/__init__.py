"""Limits and budgets that many processes share, while processes and their Redis are killed and paused.

__main__   the run: calm, chaos, the end     process    one process and its clients
site       Redis, the processes, the chaos   tenants    who asks, for what, under which limits
events     what happened, kept in files      referee    what has to hold
"""
