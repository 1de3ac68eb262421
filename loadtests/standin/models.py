"""The models and LoRA adapters a stand-in serves, and vLLM's rules for naming, loading and unloading them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from loadtests.standin.errors import Refusal, unknown_model


class Models:
    """The first base name is what every base answer echoes; an adapter's answer echoes the adapter's own name."""

    def __init__(self, names: Iterable[str], adapters: Iterable[str] = (), *, context: int = 32768) -> None:
        self.names = tuple(names)
        if not self.names:
            raise ValueError("a worker serves at least one model")
        self.adapters: dict[str, str] = {name: f"adapters/{name}" for name in adapters}  # name -> path
        self.context = context
        self.edition = 0  # goes up with every adapter loaded or unloaded
        self.takes_adapters = True  # runs with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1
        self.load_delay = 0.0  # seconds that a load takes
        self.orders: deque[tuple[str, str]] = deque(maxlen=1000)  # ("load" | "unload", name), carried out or not

    def resolve(self, name: object) -> str:
        """The name the answer carries for the `model` a request asked for."""
        if name is None or name == "" or name in self.names:
            return self.names[0]
        if isinstance(name, str) and name in self.adapters:
            return name
        raise unknown_model(str(name), self.names)

    def load(self, name: str, path: str, *, in_place: bool) -> str:
        self.orders.append(("load", name))
        if not self.takes_adapters:
            raise Refusal(404, "Not Found", type="NotFoundError")
        if not name or not path:
            raise _bad_input("Both 'lora_name' and 'lora_path' must be provided.")
        if name in self.names:
            raise _bad_input(f"The lora adapter '{name}' conflicts with a served base model.")
        if name in self.adapters and not in_place:
            raise _bad_input(
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
                "'load_inplace' to True."
            )
        if "missing" in path:
            raise Refusal(404, f"Loading lora {name} failed: No adapter found for {path}", type="NotFoundError")
        if "broken" in path:
            raise Refusal(400, f"Loading lora {name} failed: {path} is not a valid adapter.", type="BadRequestError")
        self.adapters[name] = path
        self.edition += 1
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> str:
        self.orders.append(("unload", name))
        if not self.takes_adapters:
            raise Refusal(404, "Not Found", type="NotFoundError")
        if not name:
            raise _bad_input("'lora_name' needs to be provided to unload a LoRA adapter.")
        if name not in self.adapters:
            raise Refusal(404, f"The lora adapter '{name}' cannot be found.", type="NotFoundError")
        del self.adapters[name]
        self.edition += 1
        return f"Success: LoRA adapter '{name}' removed successfully."

    def listing(self) -> dict[str, object]:
        """The /v1/models document."""
        now = int(time.time())
        cards = [_card(name, now, f"models/{self.names[0]}", None, self.context) for name in self.names]
        cards += [_card(name, now, path, self.names[0], None) for name, path in self.adapters.items()]
        return {"object": "list", "data": cards}


def _bad_input(message: str) -> Refusal:
    return Refusal(400, message, type="InvalidUserInput")


def _card(name: str, now: int, root: str, parent: str | None, context: int | None) -> dict[str, object]:
    permission = {
        "id": f"modelperm-{abs(hash(name)):016x}"[:26],
        "object": "model_permission",
        "created": now,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": now,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": context,
        "permission": [permission],
    }
