"""Budgets in short: ``36dB`` is the threat ``psnr:36``, and ``8/255`` is ``linf:8/255``."""

from __future__ import annotations

import re


def spelled_out(budget: str) -> str:
    """The threat that a budget stands for; what is not in short stays as it is."""
    text = budget.strip()
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*dB", text, re.IGNORECASE):
        return f"psnr:{match[1]}"
    return f"linf:{text}" if re.fullmatch(r"\d+(?:\.\d+)?/\d+", text) else text
