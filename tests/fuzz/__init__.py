"""Fuzzing of both parsers, from a kept corpus: `python -m tests.fuzz` searches, `test_fuzz.py` searches a little.

`requests` is what a client may send, `answers` what a worker may; each states what must hold for any bytes. `mutate`
makes new cases out of old ones. A case that breaks what must hold is kept in `corpus/` for good.
"""
