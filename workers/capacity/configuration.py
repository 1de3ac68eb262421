"""A model's shape from its Hugging Face `config.json`: weights by role, and what attention caches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from workers.capacity.architecture import Attention, Model, Role, Weights
from workers.capacity.stored import NOT_QUANTIZED, stored_quantization
from workers.errors import WrongUsage

LARGEST = 10**7
MOST_LAYERS = 10_000
NOT_GATED = frozenset(
    ("gpt2", "opt", "gptj", "gpt_neox", "gpt_bigcode", "falcon", "bloom", "mpt", "phi", "starcoder2", "nemotron")
)
NOT_ROTARY = frozenset(("gpt2", "opt", "bloom", "mpt", "gpt_bigcode"))
KNOWN_LAYERS = frozenset(("full_attention", "sliding_attention"))
STATE_SPACE = ("ssm_cfg", "state_size", "mamba_d_state", "mamba_num_heads", "linear_num_key_heads", "rwkv_hidden_size")


@dataclass(frozen=True, slots=True)
class _Fields:
    """Whole numbers of one config.json, under the names that model families give them."""

    where: str
    values: Mapping[str, Any]

    def number(self, *names: str) -> int | None:
        for name in names:
            found = self.values.get(name)
            if found is None:
                continue
            if type(found) is not int or not 0 <= found <= LARGEST:
                raise WrongUsage(f"{self.where}: `{name}` is {found!r}; it must be a whole number")
            return found
        return None

    def positive(self, *names: str, default: int | None = None) -> int:
        found = self.number(*names)
        if found is None:
            found = default
        if found is None:
            raise WrongUsage(f"{self.where} has no `{names[0]}`; is it a language model's configuration?")
        if found < 1:
            raise WrongUsage(f"{self.where}: `{names[0]}` is {found}; it must be at least 1")
        return found

    def flag(self, name: str, default: bool) -> bool:
        found = self.values.get(name, default)
        return found if isinstance(found, bool) else default


@dataclass(frozen=True, slots=True)
class Shape:
    """A transformer's dimensions; experts 0 is a dense model, latent 0 no MLA."""

    kind: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    gated: bool
    tied: bool
    max_context: int | None
    experts: int
    experts_per_token: int
    expert_intermediate: int
    shared_intermediate: int
    dense_layers: int  # before the first layer with experts
    q_rank: int
    latent_rank: int  # MLA
    rope_dim: int
    value_dim: int


def from_config(config: Mapping[str, Any], name: str, where: str) -> Model:
    """The model that a config.json describes. `where` names it in errors. Raises WrongUsage."""
    inner = config.get("text_config")
    values = {**config, **cast("Mapping[str, Any]", inner)} if isinstance(inner, Mapping) else dict(config)
    fields = _Fields(where, values)
    _refuse_unknown_kinds(fields)
    shape = shape_of(fields)
    stored = stored_quantization(values.get("quantization_config"), where)
    rotary_bytes = 2 * (shape.rope_dim or shape.head_dim) * (shape.max_context or 0)
    return Model(
        name=name,
        weights=weights_of(shape),
        attention=_attention(fields, shape),
        hidden_size=shape.hidden,
        heads=shape.heads,
        head_dim=shape.head_dim,
        intermediate_size=max(shape.intermediate, shape.expert_intermediate * max(1, shape.experts_per_token)),
        vocab_size=shape.vocab,
        max_context=shape.max_context,
        experts=max(1, shape.experts),
        experts_per_token=max(1, shape.experts_per_token),
        rotary_bytes=0 if shape.kind in NOT_ROTARY else rotary_bytes * _rotary_tables(values),
        stored=None if stored is NOT_QUANTIZED else stored.name,
        stored_group=stored.group,
        kv_cache_bits=stored.kv_cache_bits,
    )


def shape_of(fields: _Fields) -> Shape:
    hidden = fields.positive("hidden_size", "n_embd", "d_model")
    heads = fields.positive("num_attention_heads", "n_head", "n_heads")
    latent_rank = fields.number("kv_lora_rank") or 0
    if fields.number("head_dim") is None and not latent_rank and hidden % heads:
        raise WrongUsage(f"{fields.where}: `hidden_size` {hidden} is no multiple of {heads} heads, and no `head_dim`")
    nope, rope_dim = fields.number("qk_nope_head_dim") or 0, fields.number("qk_rope_head_dim") or 0
    head_dim = nope + rope_dim if latent_rank else fields.positive("head_dim", default=max(1, hidden // heads))
    kind = str(fields.values.get("model_type", ""))
    multi_query = fields.flag("multi_query", default=False)
    intermediate = fields.positive("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)
    experts = fields.number("num_local_experts", "num_experts", "n_routed_experts") or 0
    experts = experts if experts > 1 else 0
    per_token = fields.positive("num_experts_per_tok", "experts_per_token", default=1) if experts else 0
    if per_token > experts:
        raise WrongUsage(f"{fields.where}: {per_token} experts per token, but there are {experts}")
    expert_intermediate = fields.positive("moe_intermediate_size", default=intermediate) if experts else 0
    shared = (fields.number("n_shared_experts", "num_shared_experts") or 0) * expert_intermediate
    layers = fields.positive("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if layers > MOST_LAYERS:
        raise WrongUsage(f"{fields.where}: {layers:,} layers are no model")
    kv_heads = fields.positive("num_key_value_heads", "num_kv_heads", default=1 if multi_query else heads)
    if kv_heads > heads:
        raise WrongUsage(f"{fields.where}: {kv_heads} key and value heads are more than the {heads} attention heads")
    return Shape(
        kind=kind,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=intermediate,
        vocab=fields.positive("vocab_size"),
        gated=kind not in NOT_GATED,
        tied=fields.flag("tie_word_embeddings", default=kind in NOT_ROTARY or kind.startswith("gemma")),
        max_context=fields.number("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx") or None,
        experts=experts,
        experts_per_token=per_token,
        expert_intermediate=expert_intermediate,
        shared_intermediate=shared or (fields.number("shared_expert_intermediate_size") or 0 if experts else 0),
        dense_layers=min(layers, fields.number("first_k_dense_replace") or 0) if experts else layers,
        q_rank=fields.number("q_lora_rank") or 0,
        latent_rank=latent_rank,
        rope_dim=rope_dim,
        value_dim=fields.positive("v_head_dim", default=head_dim) if latent_rank else head_dim,
    )


def weights_of(shape: Shape) -> tuple[Weights, ...]:
    """Of the whole model, by role and by the length of their rows."""
    hidden, layers, sparse = shape.hidden, shape.layers, shape.layers - shape.dense_layers
    into = 2 if shape.gated else 1
    found = [
        Weights(Role.EMBEDDING, shape.vocab * hidden, hidden),
        *_attention_weights(shape),
        Weights(Role.OTHER, (2 * layers + 1) * hidden, 1, max_shards=1),
    ]
    if not shape.tied:
        found.append(Weights(Role.HEAD, shape.vocab * hidden, hidden))
    for role, count, width in (
        (Role.LINEAR, shape.dense_layers, shape.intermediate),
        (Role.LINEAR, sparse, shape.shared_intermediate),
        (Role.EXPERT, sparse * shape.experts, shape.expert_intermediate),
    ):
        if count and width:
            found += [
                Weights(role, count * into * width * hidden, hidden),
                Weights(role, count * width * hidden, width, input_split=True),
            ]
    if sparse:
        found.append(Weights(Role.OTHER, sparse * shape.experts * hidden, hidden, max_shards=1))  # routers
    return tuple(found)


def _attention_weights(shape: Shape) -> list[Weights]:
    hidden, layers, heads = shape.hidden, shape.layers, shape.heads
    if not shape.latent_rank:
        attended = heads * shape.head_dim
        return [
            Weights(Role.LINEAR, layers * attended * hidden, hidden),
            Weights(
                Role.LINEAR, layers * 2 * shape.kv_heads * shape.head_dim * hidden, hidden, max_shards=shape.kv_heads
            ),
            Weights(Role.LINEAR, layers * attended * hidden, attended, input_split=True),
        ]
    # DeepSeek-V2 (arXiv 2405.04434), section 2.1: down to a shared latent, up to every head.
    nope = shape.head_dim - shape.rope_dim
    query_in = shape.q_rank or hidden
    down = shape.q_rank + shape.latent_rank + shape.rope_dim
    return [
        Weights(Role.LINEAR, layers * down * hidden, hidden, max_shards=1),
        Weights(Role.LINEAR, layers * heads * shape.head_dim * query_in, query_in),
        Weights(Role.LINEAR, layers * heads * (nope + shape.value_dim) * shape.latent_rank, shape.latent_rank),
        Weights(Role.LINEAR, layers * heads * shape.value_dim * hidden, heads * shape.value_dim, input_split=True),
    ]


def _attention(fields: _Fields, shape: Shape) -> tuple[Attention, ...]:
    latent = shape.latent_rank + shape.rope_dim if shape.latent_rank else 0
    window = fields.number("sliding_window") if fields.flag("use_sliding_window", default=True) else None
    kinds = _layer_kinds(fields, shape.layers)
    sliding = kinds.count("sliding_attention") if kinds else (shape.layers if window else 0)
    if sliding and not window:
        raise WrongUsage(f"{fields.where}: `layer_types` has sliding windows, but `sliding_window` is missing")
    groups = ((shape.layers - sliding, None), (sliding, window))
    return tuple(
        Attention(count, shape.kv_heads, shape.head_dim, among or None, latent) for count, among in groups if count
    )


def _rotary_tables(values: Mapping[str, Any]) -> int:
    """Layers with windows may turn at another rate than those without (Gemma 3), and have a table of their own."""
    written = values.get("rope_parameters")
    if isinstance(written, Mapping):
        return max(1, len(KNOWN_LAYERS.intersection(cast("Mapping[str, Any]", written))))
    return 2 if "rope_local_base_freq" in values else 1


def _layer_kinds(fields: _Fields, layers: int) -> Sequence[str]:
    """What each layer attends to, empty where all do alike."""
    found = fields.values.get("layer_types")
    if isinstance(found, list):
        kinds = [str(kind) for kind in cast("list[object]", found)]
        if unknown := sorted(set(kinds) - KNOWN_LAYERS):
            raise WrongUsage(
                f"{fields.where}: layers of kind {', '.join(unknown)} keep a state that is not a cache of tokens;"
                " this arithmetic does not cover them: start the engine and read its log"
            )
        if len(kinds) != layers:
            raise WrongUsage(f"{fields.where}: `layer_types` names {len(kinds)} layers, there are {layers}")
        return kinds
    pattern = fields.number("sliding_window_pattern")  # Gemma 3: every so many-th layer attends to everything
    if pattern:
        return ["sliding_attention" if (layer + 1) % pattern else "full_attention" for layer in range(layers)]
    return ()


def _refuse_unknown_kinds(fields: _Fields) -> None:
    for name in STATE_SPACE:
        if name in fields.values:
            raise WrongUsage(
                f"{fields.where}: `{name}` is of a state-space model; this arithmetic covers attention only:"
                " start the engine and read its log"
            )
    if fields.flag("is_encoder_decoder", default=False):
        raise WrongUsage(f"{fields.where} is of an encoder-decoder; this arithmetic covers decoders only")
