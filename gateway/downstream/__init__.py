"""The client's side of the wire: uvicorn parses and keeps connections, the data-plane paths are answered from here.

`connection` takes those paths out of uvicorn's hands before ASGI begins, `exchange` is one request and its answer,
`arrivals` knows when requests came. What clients may take of a process is in `limits`, what a head must be in
`framing`, what is refused before there is a request in `refusals`, who does not take its answer in `stall`.
"""
