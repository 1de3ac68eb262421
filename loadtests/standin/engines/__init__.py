"""The engines a stand-in can be: vLLM, and what the others do otherwise. One small file each, by their published
contracts; the gateway's dialects are tested against them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from loadtests.standin.dialect.speech import VLLM, Speech
from loadtests.standin.engines.hosted import HOSTED
from loadtests.standin.engines.sglang import SGLANG
from loadtests.standin.engines.tgi import TGI
from loadtests.standin.engines.triton import TRITON
from loadtests.standin.engines.trtllm import TRTLLM

SPEECHES: Mapping[str, Speech] = MappingProxyType(
    {"vllm": VLLM, "trtllm": TRTLLM, "triton": TRITON, "sglang": SGLANG, "tgi": TGI, "openai": HOSTED}
)
