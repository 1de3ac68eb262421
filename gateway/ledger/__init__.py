"""What every attempt cost, and for whom: recorded without waiting, kept in SQL, summed into bills.

record     the one noun: an attempt
pricing    tokens or worker time -> nano-USD
writer     Ledger: a bounded queue, and the thread that empties it into a store
store      what a store must do
sqlite     the store of one machine, and the only file that speaks SQL; schema and migrations/ are its tables
location   where the `ledger:` URL points
report     use and bill by tenant, model, tag, day, ...; dimensions, sums, showback and shared are its parts
history    the bill over time, for a chart
days       sums by day of what clients said
retention  rows of single attempts go, sums stay
export/    rows for other programs, FOCUS among them
"""
