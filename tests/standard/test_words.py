import pytest

from tests.standard import words
from tests.standard.made import chapter, code

EXERCISE = ":::{exercise}\n:label: codes-first\n\n**Five minutes.** Why?\n:::"


@pytest.mark.parametrize(
    "sentence",
    [
        "The network reads 82 % of them.",
        "It reads 82 per cent of them.",
        "It stops near 0.15 nats.",
        "The loss rises to −0.15.",
        "This is three times as fast.",
        "It needs twice the steps.",
        "A factor of about 40 lies between them.",
        "That is a hundredfold gain.",
        "The table shows 0.5 nats, as Figure two did.",
        "It leaves about a third of the error.",
        "| VAE | 8.7 |",
        "Read {doc}`the chapter <one>`: it got 3.5 there.",
        "The article's {cite:t}`su2018` are two. Ours is 2.5.",
    ],
)
def test_a_measured_number_in_the_text_is_found(sentence):
    (fault,) = words.measured(chapter("# Codes", sentence))
    assert fault.startswith("cell 2 states ")


@pytest.mark.parametrize(
    "sentence",
    [
        "{cite:t}`ho2020denoising` measure an FID of 3.17.",
        "The paper has 3.17 (table 1).",
        "Equation (3) wants 0.5, Appendix B 0.25.",
        "We hide 75 % of the patches.<!-- setting -->",
        "We hide 75 % of the patches. <!-- setting --> Then we look.",
        "With $\\beta=0.15$ and `lr=0.003` nothing moves.",
        "$$x = 0.5 y$$",
        "```{math}\nx = 0.5\n```",
        "The elbo is {found}`vae elbo .1f`.",
        "See article 7.1, step 2.5 and arXiv 2006.11239.",
        "Four times a day; the manifold unfolds in 12 steps.",
    ],
)
def test_papers_settings_formulas_and_code_may_have_numbers(sentence):
    assert words.measured(chapter(sentence)) == []


def test_a_number_of_the_code_beside_it_is_a_setting():
    text = "We hide 75 % of the patches, at a rate of 0.003."
    assert words.measured(chapter(text, code("hidden, lr = 0.75, 3e-3"))) == []
    far = [code("pass"), code("pass")]
    assert len(words.measured(chapter(text, *far, code("hidden, lr = 0.75, 3e-3")))) == 2
    assert len(words.measured(chapter(text, code("finding('{a} {b}', a=(a, 0.75, 1), b=(b, 0.003, 1))")))) == 2


@pytest.mark.parametrize("question", ["Predict: will it rise?", "Before you move the slider: will it rise?"])
def test_a_question_wants_its_card(question):
    cells = ["Look.", "It moves.", code("x = 1")]
    (fault,) = words.predictions(chapter(question, *cells))
    assert fault == f"cell 1 asks without a card: {question}"
    assert words.predictions(chapter(question, *cells, code("predict('Will it rise?', answers)"))) == []
    assert len(words.predictions(chapter(question, *cells, code("model.predict(x)")))) == 1
    assert len(words.predictions(chapter(question, *cells, "More.", code("predict('Will it?', answers)")))) == 1


def test_the_question_of_an_exercise_has_its_solution():
    exercise = EXERCISE.replace("Why?", "Predict the sum.")
    assert words.predictions(chapter(exercise)) == []
    assert len(words.predictions(chapter(f"{exercise}\n\nPredict the product."))) == 1


@pytest.mark.parametrize(
    "rest",
    [
        [f"{EXERCISE}\n\nBecause it is short."],
        [f"{EXERCISE}\n\n:::{{solution}} codes-first\n\nBecause it is short.\n:::"],
        [EXERCISE, "Because it is short.", code("1", "hide-cell")],
        [EXERCISE, code("print('because')", "hide-input")],
        [EXERCISE],
        [f"{EXERCISE}\n\n{EXERCISE}", code("1", "hide-cell")],
    ],
)
def test_an_answer_that_can_be_seen_is_found(rest):
    (fault,) = words.exercises(chapter(*rest))
    assert fault.startswith("cell 1: no folded solution")


@pytest.mark.parametrize(
    "rest",
    [
        [f"{EXERCISE}\n\n:::{{solution}} codes-first\n:class: dropdown\n\nBecause.\n:::\n\n## In five lines"],
        [f"{EXERCISE}\n\n<details><summary>In words</summary>\n\nBecause.\n\n</details>"],
        [EXERCISE, ":::{solution} codes-first\n:label: s\n:class: dropdown\n\nBecause.\n:::"],
        [EXERCISE, code("1", "hide-cell", "nbval-check-output")],
    ],
)
def test_a_folded_answer_is_right(rest):
    assert words.exercises(chapter(*rest)) == []


@pytest.mark.parametrize(
    "link",
    [
        "{doc}`the next chapter <one>`",
        "[The next chapter](../1-codes/three)",
        "{doc}`The last chapter <../2-noise/three>` had it",
        "[the previous chapter's](two.ipynb#start)",
    ],
)
def test_a_signpost_that_leads_elsewhere_is_found(link):
    (fault,) = words.signposts(chapter(f"Read {link}."))
    assert "leads to" in fault


@pytest.mark.parametrize(
    "link",
    [
        "{doc}`the last chapter <one>`",
        "[The next chapter](../2-noise/three)",
        "[the previous chapter's](one.ipynb#start)",
        "[the last chapter of this part](../2-noise/three)",
        "{doc}`codes <../2-noise/three>`",
    ],
)
def test_a_signpost_that_leads_to_the_neighbour_is_right(link):
    assert words.signposts(chapter(f"Read {link}.")) == []


def test_at_the_ends_of_the_book_there_is_no_neighbour():
    assert len(words.signposts(chapter("[The last chapter](three)", page=chapter().pages[0]))) == 1
    assert len(words.signposts(chapter("[The next chapter](three)", page=chapter().pages[-1]))) == 1


@pytest.mark.parametrize(
    "said", ["is planned", "is not yet written", "are not all written", "the last chapter for now"]
)
def test_a_chapter_said_to_be_unfinished_is_found(said):
    assert len(words.signposts(chapter(f"Part six {said}."))) == 1
