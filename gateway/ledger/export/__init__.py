"""The ledger for other programs: rows that stream, however many there are.

columns    what a column holds
attempts   every attempt and correction, as the ledger keeps them
focus      the bill in the columns of FOCUS 1.3
writers    rows into CSV, JSON lines, Parquet
"""
