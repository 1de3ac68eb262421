"""The engines a worker may run, each spoken to in its own dialect. Pure translation: no IO, no clock."""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.engines.dialect import Dialect
from gateway.engines.openai import OpenAi
from gateway.engines.sglang import Sglang
from gateway.engines.tgi import Tgi
from gateway.engines.triton import Triton
from gateway.engines.trtllm import Trtllm
from gateway.engines.vllm import Vllm
from gateway.table import Engine

DIALECTS: Mapping[Engine, Dialect] = MappingProxyType(
    {
        "vllm": Vllm(),
        "trtllm": Trtllm(),
        "triton": Triton(),
        "sglang": Sglang(),
        "tgi": Tgi(),
        "openai": OpenAi(),
    }
)
