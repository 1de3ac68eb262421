"""Routing policies side by side, on simulated engines and in virtual time.

`traffic` turns a trace into requests, `engine` is one worker and `blocks` its prefix cache, `sight` what a gateway
knows of workers, `policies` the routers of the field as pure rules over that, `product` this gateway's own router.
`world` lets time pass and breaks things on the way, `figures` sums up, `show` prints and draws.
"""
