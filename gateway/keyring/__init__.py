"""API keys made at run time, beside those of the YAML: kept in a store that every gateway process looks at.

record     one key of the store and how it may change: pure
merge      records and the YAML's keys -> what a request's key is looked up in: pure
store      what a store has to do; `opening` finds the one a configuration means
redis, sqlite    the two stores
ring       the keys of one process, kept current; and when each was last used
desk       create, rotate, revoke: what the command line and the admin API share
listing    what they show
"""
