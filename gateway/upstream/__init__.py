"""The data-plane client: HTTP/1.1 to the workers, kept to what a relay needs.

`pool` keeps the connections of one worker, `connection` is one of them, `response` is one answer on it. General-purpose
clients cost several times the CPU of the relay itself, so the control plane uses one and the data plane does not.
"""
