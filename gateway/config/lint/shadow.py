"""Whether a route can ever be chosen, given those before it: first match wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, product

from gateway.config.written.routes import Match

MAX_CASES = 10_000  # beyond these a route counts as reachable; only a route of hundreds of names gets there

_ANY = "*"  # stands for every name that no route mentions; no name holds an asterisk


class Shadows:
    """The routes so far, in their order.

    `follow` gives what a model's alias stands for, since routes match either name; `tier_of` gives a tenant's tier.
    """

    def __init__(self, follow: Callable[[str], str], tier_of: Callable[[str], str | None]) -> None:
        self._follow = follow
        self._tier_of = tier_of
        self._of_model: dict[str, list[tuple[str, Match]]] = {}
        self._of_any: list[tuple[str, Match]] = []

    def add(self, name: str, match: Match) -> None:
        for model in dict.fromkeys(match.model or ()):
            self._of_model.setdefault(model, []).append((name, match))
        if match.model is None:
            self._of_any.append((name, match))

    def hiding(self, match: Match) -> list[str]:
        """The routes so far that together take all that `match` would; none when something is left for it.

        A match is a product of models, tenants and tiers with a length bound, so it is hidden exactly if for each
        single model, tenant and tier it takes there is a route that takes that one at every length the match allows.
        """
        takers: dict[str, None] = {}
        for number, case in enumerate(self._cases(match)):
            taker = self._taker(case, match.max_prompt_tokens) if number < MAX_CASES else None
            if taker is None:
                return []
            takers[taker] = None
        return list(takers)

    def _cases(self, match: Match) -> Iterator[tuple[str, str, str]]:
        """What stands for the whole: where a match takes anything, only one that takes anything too can hide it."""
        for tenant in match.tenant or [_ANY]:
            tiers, own = match.tier or [_ANY], self._tier_of(tenant)
            if own is not None:
                tiers = [own] if match.tier is None or own in match.tier else []
            for model, tier in product(match.model or [_ANY], tiers):
                yield model, tenant, tier

    def _taker(self, case: tuple[str, str, str], longest: int | None) -> str | None:
        model, tenant, tier = case
        asked = dict.fromkeys((model, self._follow(model)))
        for name, other in chain(*(self._of_model.get(word, ()) for word in asked), self._of_any):
            if (
                (other.tenant is None or tenant in other.tenant)
                and (other.tier is None or tier in other.tier)
                and _reaches(other.max_prompt_tokens, longest)
            ):
                return name
        return None


def _reaches(bound: int | None, longest: int | None) -> bool:
    """Whether prompts up to `bound` include all up to `longest`; None is no bound."""
    return bound is None or (longest is not None and longest <= bound)
