"""LiteLLM's proxy from its Python package: one worker process, no database, quiet."""

from __future__ import annotations

import json
import secrets

from loadtests.peers.base import MODEL, Place, Start, virtual_environment


class LiteLLM:
    name = "litellm"
    streams = 0  # 500 streams of 50 tokens a second are ten times what it relays
    processes = 1

    def install(self) -> None:
        virtual_environment(self.name)

    def start(self, place: Place) -> Start:
        parameters = {"model": f"openai/{MODEL}", "api_base": f"{place.worker_url}/v1", "api_key": "none"}
        key = f"sk-{secrets.token_hex(16)}"  # it does not start without one
        config = place.directory / "config.yaml"
        models = [{"model_name": MODEL, "litellm_params": parameters}]
        config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": key}}))
        command = [virtual_environment(self.name) / "litellm", "--config", config, "--num_workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(place.port), "--telemetry", "False"]
        env = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        return Start(command, env, (("authorization", f"Bearer {key}"),), patience=90.0)
