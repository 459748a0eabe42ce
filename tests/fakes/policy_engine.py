"""A policy engine that says what the test wants."""

from collections.abc import Mapping
from typing import Any

from services.core.bundle import Bundle


class SaysEngine:
    """answer: the value of the entry point, or the exception to raise. asked: every (revision, input)."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def evaluate(self, bundle: Bundle, input_value: Mapping[str, Any]) -> Any:
        self.asked.append((bundle.revision, input_value))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer
