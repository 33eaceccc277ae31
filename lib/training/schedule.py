"""How fast to go: the learning rate of each step."""

import math

from lib.checks import check_count, check_number, check_option

# The share of the steps in which the learning rate rises, where the caller does not say.
WARMUP = {"constant": 0.02, "cosine": 0.02, "onecycle": 0.3}


def learning_rate(step: int, steps: int, peak: float, schedule: str, warmup: float) -> float:
    r"""The learning rate of step 1, ..., `steps`; it rises to `peak` during the share `warmup` of them.

    "constant" and "cosine" rise in a straight line. Then the one stays at `peak`, and the other falls along
    half a cosine to zero (Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5, one cycle). "onecycle" rises
    along half a cosine from `peak`/25 and falls along another to `peak`/250,000 (Smith and Topin,
    "Super-convergence", 2019), step for step what `torch.optim.lr_scheduler.OneCycleLR` does.

    It depends on nothing but its arguments, so a resumed training needs no memory of it. Raises ValueError for a step
    that is none of them, a peak that is not above 0, an unknown schedule and a warmup outside [0, 1).
    """
    check_count(steps=steps)
    check_count(1, steps, step=step)
    check_option("schedule", schedule, tuple(WARMUP))
    check_number(above=0, peak=peak)
    check_number(0, math.nextafter(1, 0), warmup=warmup)
    return rate_at(step, steps, peak, schedule, warmup)


def rate_at(step: int, steps: int, peak: float, schedule: str, warmup: float) -> float:
    """`learning_rate` of arguments that were checked before, once a training and not once a step."""
    if schedule == "onecycle":
        now, top, last = step - 1, warmup * steps - 1, steps - 1
        if now < top:
            return peak * (1 / 25 + (1 - 1 / 25) * _half_cosine(now / top))
        return peak * (1 / 25e4 + (1 - 1 / 25e4) * _half_cosine((last - now) / (last - top)))
    rising = round(warmup * steps)
    if step <= rising:
        return peak * step / (rising + 1)
    return peak if schedule == "constant" else peak * _half_cosine((steps + 1 - step) / (steps - rising))


def _half_cosine(share: float) -> float:
    """From 0 to 1 as `share` goes from 0 to 1, flat at both ends."""
    return (1 - math.cos(math.pi * share)) / 2
