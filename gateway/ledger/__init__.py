"""What every attempt cost, and for whom: recorded without waiting, kept in SQL, summed into bills.

record     the one noun: an attempt
pricing    tokens or worker time -> nano-USD
writer     Ledger: a bounded queue, and the thread that empties it into a store
store      what a store must do
sqlite     the store of one machine, and the only file that speaks SQL; schema and migrations/ are its tables
location   where the `ledger:` URL points
report     the ledger summed by tenant, model, day, ...
"""
