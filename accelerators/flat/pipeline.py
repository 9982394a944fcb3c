"""Programs for the cycle-level engine. (placeholder)"""
from __future__ import annotations
from typing import Any
def fused_program(*a: Any) -> Any: raise NotImplementedError
def phase_program(*a: Any) -> Any: raise NotImplementedError
