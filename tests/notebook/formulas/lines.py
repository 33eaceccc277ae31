"""The letters in which the tables of false and of true steps are written, and one step of them."""

from lib.notebook.derivation import Derivation
from lib.notebook.formulas import Law, Normal, every, family, frac, function, noise, symbol, symbols, vector

x, y, z, a, b, c, mu, theta = symbols("x y z a b c mu theta")
s, w = symbols("sigma w", "positive")
u = symbol("u", "unit")
i, j, n, t, d, T = symbols("i j n t d T", "integer")
h, g, k = family("h"), family("g"), family("k")
alpha, bar = family("alpha", "unit"), family("alphabar", "unit")
f, psi = function("f"), function("psi", "positive")
e, e1, e2, noises = noise("epsilon"), noise("epsilon_1"), noise("epsilon_2"), noise("e", vector=True)
v, m = vector("v"), vector("m")
half, tiny, tinier = frac(1, 2), frac(1, 10**45), frac(1, 10**300)
q, p = Normal(z, mu, s**2), Normal(z, 0, 1)

model, guide = Law("p", z, x | z), Law("q", z | x)
one, other = Law("p", x), Law("q", x)
state = family("x")
chain = Law("q", state[0], every(t, 1, T, state[t] | state[t - 1]))

TAME = "unknown functions taken to be smooth and to grow slower than the Gaussian falls"
INSIDE = "the derivative taken under the integral"
MODELS = "random finite models of up to 4 states a variable"


def note(before, line, relation: str = "=", of=(), **settings) -> str | None:
    """The footnote of a step that is accepted; raises as ``Derivation`` does."""
    derivation = Derivation(before, name="line", **settings)
    derivation.step(line, because="Because.", relation=relation, of=of)
    return derivation.lines[-1].note
