"""A derivation on the page: HTML that unfolds, LaTeX, text; the same every time."""

import re
import sys
import types

from lib.notebook.derivation import Derivation
from lib.notebook.formulas import (
    Expect,
    Law,
    Normal,
    bracket,
    exp,
    frac,
    function,
    log,
    symbol,
    symbols,
)

z, mu = symbols("z mu")
sigma = symbol("sigma", "positive")
q, p = Normal(z, mu, sigma**2), Normal(z, 0, 1)
half = frac(1, 2)


def displayed() -> Derivation:
    x = symbol("x")
    model = Law("p", z, x | z, latex=r"p_\theta")
    d = Derivation(log(model(x)), name="shown", title="A & B, $z<1$", laws=[model], where={mu: sigma**2})
    d.step(log(model(x, z)) - log(model(z | x)), because=r"Bayes & co, $p(x) < 1$.")
    d.step(
        log(model(x)) + bracket(mu - sigma**2),
        because="Add nothing.",
        detail=[(log(model(x)) + 0 * mu, "Nothing.")],
    )
    return d


def test_html_is_an_ordered_list_whose_small_steps_unfold():
    page = displayed()._repr_mimebundle_()["text/html"]
    assert page.startswith('<section class="derivation" id="derivation-shown" aria-label="Derivation shown">')
    assert [int(n) for n in re.findall(r'id="shown-(\d)"', page)] == [1, 2, 3]
    assert re.search(r"<details class=\"derivation-detail\"><summary>In 1 smaller step</summary><ol", page)
    assert 'id="shown-3.1"' in page and "A &amp; B" in page and r"\(z&lt;1\)" in page
    assert page.count("tex2jax_process") == page.count(r"\(") == page.count(r"\)")
    assert r"p_\theta(x) = " not in page and r"\(p_\theta = p_\theta(z)\,p_\theta(x \mid z)\)" in page
    assert r"\sigma &gt; 0" in page and r"\mu := \sigma^{2}" in page
    for tag in ("section", "ol", "li", "details", "span", "div", "small", "p"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_latex_and_text_hold_every_line_and_reason():
    bundle = displayed()._repr_mimebundle_()
    assert bundle["text/latex"].startswith("$$\n\\begin{aligned}\n")
    for number in ("(1)", "(2)", "(3.1)", "(3)"):
        assert rf"\text{{{number}}}" in bundle["text/latex"] and number in bundle["text/plain"]
    assert r"Bayes and co, $p(x) < 1$." in bundle["text/latex"] and "Add nothing." in bundle["text/plain"]
    opened, closed = (len(re.findall(rf"(?<!\\)\{brace}", bundle["text/latex"])) for brace in "{}")
    assert opened == closed


def test_a_definition_may_be_a_plain_number():
    d = Derivation(mu**2, name="number", where={mu: 3})
    d.step(9, because="Three times three.")
    shown = d._repr_mimebundle_()
    assert r"\mu := 3" in shown["text/html"] and r"\mu := 3" in shown["text/latex"]


def test_what_was_only_tested_is_marked_and_explained():
    x = symbol("x")
    law = Law("p", x, z, (mu | x, z))
    d = Derivation(law(x | z), name="independent", laws=[law])
    d.step(law(x), because="Two causes.")
    page = d._repr_mimebundle_()["text/html"]
    note = "checked exactly on 3 random finite models of up to 4 states a variable"
    assert "Two causes.<sup>a</sup>" in page
    assert f"<sup>a</sup> {note}.</small>" in page
    assert f"[a] {note}" in repr(d)


def test_a_proof_needs_no_footnote():
    x = symbol("x")
    model, guide = Law("p", z, x | z), Law("q", z | x)
    d = Derivation(log(model(x)), name="elbo", laws=[model, guide])
    d.step(Expect(log(model(x, z) / guide(z | x)), over=guide(z | x)), because="Jensen.", relation=">=")
    assert "<sup>" not in d._repr_mimebundle_()["text/html"] and "[a]" not in repr(d)


def test_the_relation_says_what_it_leaves_open():
    y, a = symbols("y a")
    d = Derivation(exp(y + a), name="open")
    d.step(exp(y), because="Drop a factor.", relation="propto", of=y)
    assert r"Drop a factor. (Up to a factor free of $y$.)" in repr(d)


def test_display_is_the_same_every_time_and_has_no_html_on_colab(monkeypatch):
    assert displayed()._repr_mimebundle_() == displayed()._repr_mimebundle_()
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    assert set(displayed()._repr_mimebundle_()) == {"text/latex", "text/plain"}


def test_a_lemma_is_shown_in_every_form_and_its_anchors_differ_from_its_own_display():
    lemma = Derivation(mu * 2, name="lemma", title="Twice", where={z: mu})
    lemma.step(mu + z, because="One and one.")
    d = Derivation(mu * 2, name="whole", where={z: mu})
    d.step(mu + z, because="By the lemma.", detail=lemma)
    bundle = d._repr_mimebundle_()
    assert "(2.2) = mu + z" in bundle["text/plain"] and r"\text{(2.1)}" in bundle["text/latex"]
    assert "<summary>Twice</summary>" in bundle["text/html"]
    anchors = re.findall(r'id="([^"]+)"', bundle["text/html"] + lemma._repr_mimebundle_()["text/html"])
    assert len(set(anchors)) == len(anchors) and "whole-2-lemma-2" in anchors


def test_what_a_lemma_or_a_function_takes_for_granted_is_said():
    y = symbol("y", "unit")
    grown = function("g", "positive")
    lemma = Derivation(mu * 2, name="lemma", where={mu: grown(y)})
    d = Derivation(z, name="whole")
    d.step(z + 0, because="Nothing.", detail=lemma)
    bundle = d._repr_mimebundle_()
    for shown in (bundle["text/latex"], bundle["text/html"].replace("&gt;", ">").replace("&lt;", "<")):
        for fact in (r"\mu := g(y)", "g > 0", "0 < y < 1"):
            assert fact in shown
