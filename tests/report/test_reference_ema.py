"""Whether the reference's EMA explains the paper's drop of BN: the rules, and sentences from made-up studies."""

import numpy as np
import pytest

from safmn.paper.statistics import Difference, Interval
from safmn.report import reference_ema
from safmn.report.joined import Joined
from safmn.report.reference_ema import Drop
from tests.report import fabricate

VARIANTS = ["safmn", "ln_bn", "ln_bn_reference_ema"]
NONE = Interval(None, None, 1, "one seed each")


def ask(folder, study) -> list[str]:
    return reference_ema.answers(Joined(study, folder))


def make(folder, study, dataset="B100", images=100, **drops: float) -> None:
    """Scores of BN (`ln_bn`, `ln_bn_reference_ema`) that lie `drops` dB from the baseline's, image by image."""
    draw = np.random.default_rng(0)
    base = draw.normal(27, 3, images)
    for name, drop in ({"safmn": 0.0} | drops).items():
        fabricate.run(folder, study, name)
        scatter = draw.normal(0, 0.02, images) if drop else 0.0
        fabricate.quality(folder, name, "seed0_best", dataset, list(base + drop + scatter))


def study(*datasets: str):
    data = {"train": ["T91"], "validation": ["BSDS200[:10]"], "test": list(datasets or ("B100",))}
    return fabricate.study(variants=VARIANTS, data=data)


def test_the_printed_drops_are_the_papers():
    # Table 3: 30.28 and 30.05 of LN -> BN, 30.43 and 30.43 of the baseline.
    drops = reference_ema.printed_drops()
    assert {name: str(drop) for name, drop in drops.items()} == {"DIV2K_val": "-0.15", "Manga109": "-0.38"}


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((-0.25, -0.21), Drop.DEEPER),
        ((-0.25, -0.19), Drop.AS_PRINTED),
        ((-0.17, -0.13), Drop.AS_PRINTED),
        ((-0.09, -0.05), Drop.SMALLER),
        ((-0.11, -0.05), Drop.AS_PRINTED),
        ((-0.30, 0.00), Drop.UNKNOWN),  # wider than what the paper discusses
        ((-9.00, -7.00), Drop.DEEPER),  # wide too, but nowhere near
    ],
)
def test_a_drop_is_compared_with_the_print_by_its_interval(ends, expected):
    middle = sum(ends) / 2
    found = Difference(middle, Interval(*ends, 100), NONE)
    assert reference_ema.classify(found, -0.15, -0.15) is expected
    few = Difference(middle, Interval(*ends, 5), NONE)
    assert reference_ema.classify(few, -0.15, -0.15) is Drop.UNKNOWN


def test_between_two_prints_is_as_printed():
    found = Difference(-0.27, Interval(-0.30, -0.24, 100), NONE)
    assert reference_ema.classify(found, -0.38, -0.15) is Drop.AS_PRINTED
    assert reference_ema.classify(found, -0.15, -0.15) is Drop.DEEPER


def test_every_pair_of_drops_has_an_answer():
    expected = {
        # with the reference's EMA:     deeper, as printed, smaller, unknown
        Drop.DEEPER: ("undecidable", "no", "no", "no"),
        Drop.AS_PRINTED: ("no", "no", "no", "no"),
        Drop.SMALLER: ("no", "yes", "no", "undecidable"),
        Drop.UNKNOWN: ("no", "undecidable", "no", "undecidable"),
    }
    found = {tracked: tuple(reference_ema.decide(tracked, frozen)[0] for frozen in Drop) for tracked in Drop}
    assert found == expected


@pytest.mark.parametrize(
    ("without", "through", "answer", "reason"),
    [
        (-0.03, -0.30, "Yes", "with it BN loses what is printed, without it less"),
        (-0.03, -8.00, "No", "with it BN would have lost more than is printed"),
        (-0.25, -0.30, "No", "BN loses that much without it"),
        (-0.03, -0.04, "No", "with it BN loses less than is printed"),
        (-3.00, -8.00, "Undecidable", "BN loses more than is printed with it and without it"),
    ],
)
def test_the_sentence_tells_answer_reason_and_figures(tmp_path, without, through, answer, reason):
    make(tmp_path, study(), ln_bn=without, ln_bn_reference_ema=through)
    (sentence,) = ask(tmp_path, study())
    assert sentence.startswith(f"{reference_ema.QUESTION} (DIV2K_val -0.15 dB, Manga109 -0.38 dB)? {answer} on B100")
    assert f"by this study's training, which is not the paper's: {reason} (" in sentence
    assert f"with it {through:+.2f}" in sentence
    assert "95 % interval" in sentence


def test_a_dataset_of_table_3_is_compared_with_its_own_print(tmp_path):
    both = study("Manga109", "B100")
    for dataset in ("Manga109", "B100"):
        make(tmp_path, both, dataset, 109, ln_bn=-0.03, ln_bn_reference_ema=-0.15)
    manga, b100 = ask(tmp_path, both)
    assert "? No on Manga109" in manga  # 0.38 dB are printed for it
    assert "? Yes on B100" in b100


def test_what_is_not_there_leaves_it_undecidable(tmp_path):
    (sentence,) = ask(tmp_path, study())
    assert sentence.endswith(
        "? Undecidable on B100: safmn is not measured, ln_bn is not measured, ln_bn_reference_ema is not measured."
    )
    make(tmp_path, study(), ln_bn=-0.03, ln_bn_reference_ema=-0.30)
    fabricate.run(tmp_path, study(), "ln_bn", **fabricate.collapsed())
    (sentence,) = ask(tmp_path, study())
    assert sentence.endswith("? Undecidable on B100: ln_bn collapsed.")


def test_few_images_decide_nothing(tmp_path):
    make(tmp_path, study("Set5"), "Set5", 5, ln_bn=-0.03, ln_bn_reference_ema=-8.0)
    (sentence,) = ask(tmp_path, study("Set5"))
    assert "? Undecidable on Set5" in sentence
    assert "5 images: a bootstrap over so few is too narrow" in sentence


def test_a_study_without_the_row_does_not_ask(tmp_path):
    assert ask(tmp_path, fabricate.study(variants=["safmn", "ln_bn"])) == []
    assert ask(tmp_path, fabricate.study(variants=VARIANTS, training=None)) == []
