"""Which formulas stand for vectors, component by component."""

from __future__ import annotations

from lib.notebook.formulas.expression import (
    Add,
    Apply,
    Call,
    Div,
    Expect_,
    Expression,
    Grad_,
    Group,
    Integral_,
    Mul,
    Neg,
    Number,
    Pow,
    Repeat,
    Symbol,
    walk,
)


def has_vectors(e: Expression) -> bool:
    """Whether a vector occurs anywhere in ``e``."""
    return any(getattr(part, "vector", False) for part in walk(e))


def is_vector(e: Expression) -> bool:
    """Whether ``e`` stands for a vector; ``ValueError`` where a number is added to one."""
    if isinstance(e, (Symbol, Call)):
        return e.vector
    if isinstance(e, Add):
        kinds = {is_vector(term) for term in e.terms if not isinstance(term, Number)}
        if len(kinds) > 1:
            raise ValueError(f"{e!r} adds a number to a vector")
        return True in kinds
    if isinstance(e, Mul):
        vectors = [factor for factor in e.factors if is_vector(factor)]
        if len(vectors) > 1:
            raise ValueError(f"{e!r} is a product of vectors; write squared_norm, or components")
        return bool(vectors)
    if isinstance(e, Div):
        return is_vector(e.top) or is_vector(e.bottom)
    if isinstance(e, Grad_):
        if is_vector(e.body) and e.variable.vector:
            raise ValueError(f"{e!r} is the gradient of a vector by a vector, a matrix; write it by components")
        return is_vector(e.body) or e.variable.vector
    if isinstance(e, Pow):
        return is_vector(e.base)
    if isinstance(e, Apply):
        return is_vector(e.body) and e.name != "squared_norm"
    return is_vector(e.body) if isinstance(e, (Neg, Group, Expect_, Integral_, Repeat)) else False
