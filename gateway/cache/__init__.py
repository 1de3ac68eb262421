"""The response cache: exact answers to exact requests, kept per tenant.

key        what makes two requests the same, and which answers may be kept at all (pure)
entry      what is kept, and the protocol of its stores
memory     a store in this process        codec      entries as bytes, checked (pure)
redis      a store that replicas share    flight     one upstream call for identical requests under way
opening    from the URL in the configuration to a store
"""

from gateway.cache.opening import open_store

__all__ = ["open_store"]
