"""How learning rates, numbers and times are written, everywhere."""

from __future__ import annotations

import math

SHARES = (
    "acc",
    "f1",
    "auc",
    "precision",
    "recall",
    "iou",
    "dice",
    "top1",
    "top5",
)  # in the names of metrics read in per cent
PLAIN = (1e-4, 1e6)  # numbers from one to the other are written without a power of ten


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


def significant(value: float, digits: int) -> str:
    """Write a number to so many significant digits, zeros at the end too: ``0.0421``, ``1.50``, ``190``, ``3.2e-7``; or ``inf``."""
    if not value:
        return "0"
    text = f"{value:.{digits - 1}e}"
    if PLAIN[0] <= abs(float(text)) < PLAIN[1]:
        return to_place(float(text), int(text.partition("e")[2]) - digits + 1)
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if math.isfinite(value) else mantissa


def with_error(value: float, error: float) -> tuple[str, str]:
    """Write a number and its error to the second digit of the error, with one power of ten: ``1.113e7`` and ``0.016e7``.

    A value with an error of less than a millionth of it, or of more than a hundred of it, is written with its own digits.
    """
    told, size = float(f"{error:.1e}"), abs(value)
    if not 1e-6 * size <= told <= 100 * size:
        if not (PLAIN[0] <= told < PLAIN[1] and size < told):
            return significant(value, 3), significant(error, 2)
        size = told
    power = 0 if PLAIN[0] <= size < PLAIN[1] else math.floor(math.log10(size))
    place = math.floor(math.log10(told) + 1e-9) - 1 - power
    suffix = f"e{power}" if power else ""
    return f"{to_place(value / 10.0**power, place)}{suffix}", f"{to_place(told / 10.0**power, place)}{suffix}"


def to_place(value: float, place: int) -> str:
    """Write a number rounded to a power of ten, no further digits: ``190`` to the place 1, ``0.10`` to -2."""
    text = f"{round(value, -place):.{max(0, -place)}f}"
    return text.removeprefix("-") if not float(text) else text


def score_text(value: float) -> str:
    """Write a loss or an accuracy while it trains: ``0.0421``, to four decimals where that says enough, else ``2.3e-7``."""
    if not math.isfinite(value):
        return f"{value}"
    return f"{value:.4f}" if not value or 0.001 <= abs(value) < 10_000 else significant(value, 3)


def metric_words(metric: str) -> str:
    """Write a recorded metric as words: ``validation accuracy``."""
    name = metric.removeprefix("val_").replace("_", " ")
    return f"validation {name}" if metric.startswith("val_") else name


def is_named_share(metric: str) -> bool:
    """Whether a metric's name is that of a share, which is read in per cent: ``val_accuracy``."""
    return any(word in metric.lower() for word in SHARES)


def percent_text(percent: float, digits: int = 0) -> str:
    """Write a score in per cent: ``97.3 %``, ``99.31 %`` near the top; with further ``digits``, where they tell."""
    return f"{percent:.{(2 if 0 < 100 - percent < 0.95 else 1) + digits}f} %"


def share_text(share: float) -> str:
    """Write a share in per cent: ``6 %``, ``0 %``; from 0.005 to 1 % with one significant digit: ``0.4 %``."""
    percent = 100 * share
    return f"{percent:.1g} %" if 0.005 <= percent < 0.95 else f"{percent:.0f} %"


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
