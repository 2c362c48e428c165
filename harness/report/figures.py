"""Numbers as every output shows them, always with the same digits and units."""

from __future__ import annotations

import math

from harness.domain import Effect, Policy

READING = {
    Policy.EQUAL_SIZE: "at equal size",
    Policy.PER_GB: "per GB",
    Policy.FRONTIER: "against the frontier",
}


def kld(nats: float) -> str:
    """Four digits of a divergence: ``0.1432``, ``0.002013``, ``2.013e-05``."""
    return f"{nats:#.4g}"


def ppl(value: float) -> str:
    """Five digits of a perplexity."""
    return f"{value:#.5g}".removesuffix(".")


def share(fraction: float) -> str:
    """A fraction in percent with one decimal, without the sign: ``81.2``."""
    return f"{100 * fraction:.1f}"


def pct(value: float) -> str:
    """A signed change in percent, without the sign ``%``: ``+6.0``, ``-0.55``, ``+0.00``."""
    if not math.isfinite(value):
        return f"{value:+}"
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 0.995 else 2
    text = f"{value:+.{digits}f}"
    return text.replace("-", "+") if float(text) == 0 else text


def limit(limit_pct: float) -> str:
    """The limit as it is asked for: ``+1 %``."""
    return f"+{limit_pct:g} %"


def interval(effect: Effect) -> str:
    """The 95 % interval in percent: ``+4.1 … +7.9``."""
    return f"{pct(100 * math.expm1(effect.low))} … {pct(100 * math.expm1(effect.high))}"


def unit_for(size_bytes: int) -> tuple[str, float]:
    """The unit that sizes are shown in, and its bytes: GB = 10^9, MB = 10^6 for small models."""
    return ("GB", 1e9) if size_bytes >= 1e8 else ("MB", 1e6)


def sizes(main_bytes: int | None, pr_bytes: int) -> str:
    """Both sizes, or one where they are equal: ``1.024 GB (unchanged)``."""
    unit, scale = unit_for(pr_bytes)
    pr = f"{pr_bytes / scale:.3f} {unit}"
    if main_bytes is None:
        return pr
    if main_bytes == pr_bytes:
        return f"{pr} (unchanged)"
    main = f"{main_bytes / scale:.3f} {unit}"
    return f"{main} -> {pr} ({pct(100 * (pr_bytes / main_bytes - 1))} %)"


def growth(main_bytes: int, pr_bytes: int) -> str:
    """How the PR's size compares, shortly: ``=`` or ``+0.53 %``."""
    return "=" if main_bytes == pr_bytes else f"{pct(100 * (pr_bytes / main_bytes - 1))} %"
