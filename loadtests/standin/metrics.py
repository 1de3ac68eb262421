"""The engine's counters and gauges, kept and written as vLLM's /metrics writes them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)

KV_BLOCKS, KV_BLOCK_TOKENS = 32_768, 16


class Histogram:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(SECONDS, value)] += times
        self.sum += value * times

    def lines(self, name: str, help: str, labels: str) -> list[str]:
        out = [f"# HELP {name} {help}", f"# TYPE {name} histogram"]
        total = 0
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self.counts, strict=True):
            total += count
            out.append(f'{name}_bucket{{engine="0",le="{bound}",{labels}}} {float(total)}')
        out.append(f'{name}_count{{engine="0",{labels}}} {float(total)}')
        out.append(f'{name}_sum{{engine="0",{labels}}} {self.sum}')
        return out


class Metrics:
    """What the engine counts. `waiting` (more than there are), `kv_usage` and `kv_blocks` are for a test to set; the
    rest follows the traffic."""

    def __init__(self) -> None:
        self.active = 0  # running or waiting
        self.waiting = 0
        self.kv_usage = 0.0
        self.kv_blocks = KV_BLOCKS
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.preemptions = 0
        self.rejections = 0
        self.finished = {"stop": 0, "length": 0, "abort": 0, "error": 0}
        self._expected: dict[tuple[float, float, float], tuple[int, int]] = {}
        self.time_to_first_token = Histogram()
        self.inter_token = Histogram()
        self.queue_time = Histogram()
        self.prefill_time = Histogram()

    def admit(self, prompt_tokens: int, cached_tokens: int) -> None:
        self.prompt_tokens += prompt_tokens
        self.prefix_queries += prompt_tokens
        self.prefix_hits += cached_tokens

    def expect(self, first_token: float, pace: float, more_tokens: int, queued: float) -> None:
        """The times a request is going to show; a stand-in knows them beforehand. Folded into histograms later."""
        key = (first_token, pace, queued)
        requests, tokens = self._expected.get(key, (0, 0))
        self._expected[key] = (requests + 1, tokens + more_tokens)
        if len(self._expected) > 1000:
            self._fold()

    def _fold(self) -> None:
        for (first_token, pace, queued), (requests, more_tokens) in self._expected.items():
            self.time_to_first_token.observe(first_token, requests)
            self.prefill_time.observe(first_token - queued, requests)
            self.queue_time.observe(queued, requests)
            self.inter_token.observe(pace, more_tokens)
        self._expected.clear()

    def text(self, model: str, running: int) -> bytes:
        self._fold()
        waiting = self.waiting + self.active - running
        label = f'model_name="{model}"'
        lines: list[str] = []

        def family(name: str, kind: str, help: str, samples: Mapping[str, float]) -> None:
            lines.append(f"# HELP {name} {help}")
            lines.append(f"# TYPE {name} {kind}")
            lines.extend(f"{name}{{{labels}}} {float(value)}" for labels, value in samples.items())

        here = f'engine="0",{label}'
        for name, kind, value, help in (
            ("num_requests_running", "gauge", running, "Number of requests in model execution batches."),
            ("num_requests_waiting", "gauge", waiting, "Number of requests waiting to be processed."),
            ("kv_cache_usage_perc", "gauge", self.kv_usage, "KV-cache usage. 1 means 100 percent usage."),
            ("prefix_cache_queries_total", "counter", self.prefix_queries, "Prefix cache queries, in tokens."),
            ("prefix_cache_hits_total", "counter", self.prefix_hits, "Prefix cache hits, in tokens."),
            ("num_preemptions_total", "counter", self.preemptions, "Cumulative number of preemption from the engine."),
            ("prompt_tokens_total", "counter", self.prompt_tokens, "Number of prefill tokens processed."),
            ("generation_tokens_total", "counter", self.generation_tokens, "Number of generation tokens processed."),
        ):
            family(f"vllm:{name}", kind, help, {here: value})
        done = {f'engine="0",finished_reason="{reason}",{label}': count for reason, count in self.finished.items()}
        family("vllm:request_success_total", "counter", "Count of successfully processed requests.", done)
        rejected = {"max_num_queued_reqs": self.rejections, "max_num_queued_tokens": 0}
        samples = {f'{label},reason="{reason}"': count for reason, count in rejected.items()}
        help = "Number of admission attempts rejected by a queue limit, by reason."
        family("vllm:admission_rejections_total", "counter", help, samples)
        for name, histogram, help in (
            ("time_to_first_token", self.time_to_first_token, "Histogram of time to first token in seconds."),
            ("inter_token_latency", self.inter_token, "Histogram of inter-token latency in seconds."),
            ("request_queue_time", self.queue_time, "Histogram of time spent in WAITING phase for request."),
            ("request_prefill_time", self.prefill_time, "Histogram of time spent in PREFILL phase for request."),
        ):
            lines.extend(histogram.lines(f"vllm:{name}_seconds", help, label))
        cache = f'block_size="{KV_BLOCK_TOKENS}",cache_dtype="auto",enable_prefix_caching="True",engine="0"'
        cache += f',mamba_block_size="None",num_cpu_blocks="None",num_gpu_blocks="{self.kv_blocks}"'
        family("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig", {cache: 1})
        return ("\n".join(lines) + "\n").encode()
