"""The relays the gateway is measured beside. One file each: how it is installed, configured and started.

A peer gets one core for each of its processes, one worker to relay to, and its own defaults except where its file says
otherwise.
"""

from loadtests.peers.base import Peer, Place, Running, Start, Unavailable
from loadtests.peers.direct import Direct
from loadtests.peers.litellm import LiteLLM
from loadtests.peers.nginx import Nginx
from loadtests.peers.portkey import Portkey
from loadtests.peers.sglang_router import SglangRouter
from loadtests.peers.tollgate import Tollgate, TollgatePair, TollgateRedis, TollgateSettlerApart
from loadtests.peers.vllm_router import VllmRouter

PEERS: tuple[Peer, ...] = (
    Direct(),
    Nginx(),
    Tollgate(),
    TollgateSettlerApart(),
    Tollgate(limits=False),
    Tollgate(ledger=False),
    TollgateRedis(),
    VllmRouter(),
    SglangRouter(),
    LiteLLM(),
    Portkey(),
    Tollgate(processes=2),
    TollgatePair(),
)

__all__ = ["PEERS", "Peer", "Place", "Running", "Start", "Unavailable"]
