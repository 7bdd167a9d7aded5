"""How learning rates and times are written, everywhere."""

from __future__ import annotations


def format_rate(lr: float) -> str:
    """Write a rate as it is typed: ``1e-3``, ``2.15e-5``, ``10``. Reading it back gives the same rate."""
    if 0.1 <= lr < 10_000:
        return f"{lr:g}" if float(f"{lr:g}") == lr else repr(lr)
    for digits in range(17):
        text = f"{lr:.{digits}e}"
        if float(text) == lr:
            break
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"


def rate_text(lr: float) -> str:
    """Write a rate for reading, three digits of it: ``2.51e-4`` where somebody's grid has 2.5118864315e-4."""
    return format_rate(float(f"{lr:.3g}"))


def time_text(time: float, unit: str) -> str:
    """Write ``5 epochs``, ``1 epoch``, ``0.1 epochs``, ``20,000 steps``."""
    return f"{time:,.10g} {unit}{'' if time == 1 else 's'}"


def rounded(lr: float) -> float:
    """Return a rate with three digits, so that it can be typed again."""
    return float(f"{lr:.2e}")


def duration(seconds: float) -> str:
    """Write ``45 s``, ``3 min 10 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
