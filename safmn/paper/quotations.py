"""The quantitative sentences of the paper's text, each with the claims that it makes: cells and arithmetic.

"Performance" is PSNR unless the sentence names SSIM. Left out: sentences without any number or order ("a favorable
trade-off"), training settings other than the architecture, and figures of other papers that stand in none of the tables
(15.59M parameters of RCAN, 43M of EDSR).

To add a claim, put it below its sentence; `safmn.paper.claims.Claim` explains the fields.
"""

from collections.abc import Mapping
from dataclasses import replace

from safmn.paper.claims import Claim
from safmn.paper.published import Place
from safmn.paper.spans import (
    Span,
    difference,
    greatest,
    least,
    magnitude,
    mean,
    percent,
    percent_less,
    ratio,
    smallest_step,
)

Cells = dict[str, Place]
Groups = dict[str, Mapping[str, Place]]

TABLE_1_SETS = ("set5", "set14", "b100", "urban100", "manga109")
TABLE_3_SETS = {"div2k": "div2k_val", "manga": "manga109"}
TABLE_2 = {"carn_m": "carn_m", "carn": "carn", "edsr": "edsr_baseline", "imdn": "imdn", "lapar": "lapar_a"}
TABLE_4 = {"n4": "blocks_4", "n6": "blocks_6", "n8": "safmn", "n12": "blocks_12"}
TABLE_1 = {  # from CARN on
    "carn_m": "carn_m",
    "carn": "carn",
    "edsr": "edsr_baseline",
    "imdn": "imdn",
    "pan": "pan",
    "lapar": "lapar_a",
    "ecbsr": "ecbsr_m16c64",
    "smsr": "smsr",
    "shufflemixer": "shufflemixer",
}


# --- Cells ------------------------------------------------------------------------------------------------------------


def _cells(table: int, column: str, scale: int = 4, /, **networks: str) -> Cells:
    """Name one cell a network for the formula."""
    return {name: (table, network, scale, column) for name, network in networks.items()}


def _ours(table: int, column: str, scale: int = 4, /, **others: str) -> Cells:
    """Name SAFMN's cell `ours`, and those of others."""
    return _cells(table, column, scale, ours="safmn", **others)


def _ours_on(sets: Mapping[str, str], table: int, metric: str = "psnr", scale: int = 4, /, **others: str) -> Groups:
    """Name a group of cells for SAFMN and for each of the others: one cell a test set."""
    networks = {"ours": "safmn"} | others
    return {
        name: {part: (table, network, scale, f"{dataset}_{metric}") for part, dataset in sets.items()}
        for name, network in networks.items()
    }


def _ours_on_table_1(scale: int, sets: tuple[str, ...] = TABLE_1_SETS, /, **others: str) -> Groups:
    return _ours_on({name: name for name in sets}, 1, "psnr", scale, **others)


def _ours_and_best(scale: int, *best: str) -> Groups:
    """Name PSNR of SAFMN, and the best published PSNR, on each of the five test sets of Table 1."""
    columns = dict(zip(TABLE_1_SETS, best, strict=True))
    group = {name: (1, network, scale, f"{name}_psnr") for name, network in columns.items()}
    return _ours_on_table_1(scale) | {"best": group}


def _acts_of_table_1(scale: int, *without: str) -> Cells:
    """Name acts of SAFMN and the networks of Table 1 from CARN on, without those that have no such cell."""
    return _ours(1, "activations", scale, **{name: TABLE_1[name] for name in TABLE_1 if name not in without})


def _operations(**columns: str) -> Cells:
    """Name cells of Table 5."""
    return {name: (5, "safmn", 4, column) for name, column in columns.items()}


UNNAMED_OPERATIONS = _operations(
    split="channel_splitting",
    pool="adaptive_maxpool",
    nearest="nearest_interpolation",
    product="elementwise_product",
)


# --- Arithmetic that several claims share -----------------------------------------------------------------------------


def _itself(value: Span) -> Span:
    return value


def _times(ours: Span, other: Span) -> Span:
    """Compute how many times as much the other one is."""
    return ratio(other, ours)


def _increase(ours: Span, other: Span) -> Span:
    return difference(other, ours)


def _part(ours: Span, without: Span) -> Span:
    """Compute the part in per cent that is gone without it."""
    return percent_less(without, ours)


def _lead(ours: Span, *others: Span) -> Span:
    """Compute how far the smallest of the others is above ours."""
    return least(*others) - ours


def _excess(value: Span, *others: Span) -> Span:
    """Compute how far a value is above the largest of the others."""
    return value - greatest(*others)


def _smallest_gain(ours: list[Span], *others: list[Span]) -> Span:
    """Compute the smallest difference to any of the others on any test set."""
    return least(*(a - b for other in others for a, b in zip(ours, other, strict=True)))


def _largest_distance(ours: list[Span], other: list[Span]) -> Span:
    return greatest(*(magnitude(b - a) for a, b in zip(ours, other, strict=True)))


def _urban100_beyond_others(ours: list[Span], best: list[Span]) -> Span:
    """Compute how much farther below the best PSNR is on Urban100, the fourth set, than on any other."""
    gaps = [b - a for a, b in zip(ours, best, strict=True)]
    return gaps.pop(3) - greatest(*gaps)


# --- The sentences ----------------------------------------------------------------------------------------------------

COMPARABLE = "Read as comparable to IMDN on each of the five test sets; "
FOUR_GAINS = "On both datasets; the number is the smallest of the four gains."
FOUR_DROPS = "BN and FBN on both datasets; the number is the smallest of the four drops."
LARGER_DISTANCE = "The larger distance of the two datasets."
LINKED = "which Section 4.2 links to memory consumption, that goes when SAFM goes."
URBAN100 = "Read as further below the best print on Urban100 than on any other test set, "
FEWEST_ACTS = "Read as the fewest activations of the networks from CARN on in Table 1, "

# A table, laid out by hand.
# fmt: off
SENTENCES: dict[str, dict[str, list[Claim]]] = {  # section -> quotation -> its claims
    "Abstract": {
        "the proposed method is 3× smaller than state-of-the-art efficient SR methods, e.g., IMDN": [
            Claim("smaller_than_imdn_x4", "exactly", "3", "times", _ours(1, "params", imdn="imdn"), _times),
            Claim("smaller_than_imdn_x3", "exactly", "3", "times", _ours(1, "params", 3, imdn="imdn"), _times),
            Claim("smaller_than_imdn_x2", "exactly", "3", "times", _ours(1, "params", 2, imdn="imdn"), _times),
            Claim("smaller_than_pan", "at least", "3", "times", _ours(1, "params", pan="pan"), _times, read=True,
                  note="IMDN is the sentence's example; PAN is compared with as state of the art too."),
            Claim("smaller_than_shufflemixer", "at least", "3", "times",
                  _ours(1, "params", shufflemixer="shufflemixer"), _times, read=True,
                  note="IMDN is the sentence's example; ShuffleMixer is compared with as state of the art too."),
        ],
        "yields comparable performance with much less memory usage": [
            Claim("comparable_to_imdn_x4", "comparable", "", "dB", _ours_on_table_1(4, imdn="imdn"), _smallest_gain,
                  note=COMPARABLE + "the number is that of the worst."),
            Claim("comparable_to_imdn_x3", "comparable", "", "dB", _ours_on_table_1(3, imdn="imdn"), _smallest_gain,
                  note=COMPARABLE + "the worst is Urban100."),
            Claim("comparable_to_imdn_x2", "comparable", "", "dB", _ours_on_table_1(2, imdn="imdn"), _smallest_gain,
                  note=COMPARABLE + "the worst is Urban100, then Manga109."),
            Claim("much_less_memory_than_imdn", "much less", "", "%", _ours(2, "gpu_memory", imdn="imdn"),
                  percent_less),
        ],
    },
    "4.1": {
        "The number of FMM and feature channels is set to 8 and 36": [
            Claim("eight_blocks", "exactly", "8", "blocks", _ours(3, "params"),
                  lambda ours: (ours * 1000 - 16608) / 27864,
                  note="By equations (1) to (4) an FMM of 36 channels has 27,864 parameters; the first and the last "
                  "convolution at x4 have 16,608 together."),
            Claim("thirty_six_channels", "exactly", "36", "channels",
                  _cells(4, "params", n4="blocks_4", n12="blocks_12"),
                  lambda n4, n12: ((n12 - n4) * 1000 / 8 / 36 - 18) / 21,
                  note="By equations (1) to (4) an FMM of C channels has (21 C + 18) C parameters; 8 FMMs more in "
                  "Table 4 show what one has."),
        ],
    },
    "4.2": {
        "our SAFMN has parameters about 85% less than the CARN [1]": [
            Claim("params_less_than_carn", "about", "85", "%", _ours(1, "params", carn="carn"), percent_less),
        ],
        "66% less than the IMDN [20]": [
            Claim("params_less_than_imdn", "about", "66", "%", _ours(1, "params", imdn="imdn"), percent_less),
        ],
        "42% less than the ShuffleMixer [45]": [
            Claim("params_less_than_shufflemixer", "about", "42", "%", _ours(1, "params", shufflemixer="shufflemixer"),
                  percent_less),
        ],
        "As for activations, we have 60%, 29% and 71% fewer than them, respectively.": [
            Claim("acts_less_than_carn", "exactly", "60", "%", _ours(1, "activations", carn="carn"), percent_less),
            Claim("acts_less_than_imdn", "exactly", "29", "%", _ours(1, "activations", imdn="imdn"), percent_less),
            Claim("acts_less_than_shufflemixer", "exactly", "71", "%",
                  _ours(1, "activations", shufflemixer="shufflemixer"), percent_less),
        ],
        "we achieve similar performance among these methods": [
            Claim("similar_performance", "similar", "", "dB",
                  _ours(1, "b100_psnr", carn="carn", imdn="imdn", shufflemixer="shufflemixer"),
                  lambda ours, *others: greatest(*(magnitude(ours - other) for other in others)),
                  note="B100 at x4, as the sentences before it say; the number is the largest distance."),
        ],
        "our method achieves a clear improvement over other state-of-the-art methods": [
            Claim("improvement_in_memory", "more than", "0", "MiB", _ours(2, "gpu_memory", **TABLE_2),
                  lambda ours, *others: difference(least(*others), ours)),
            Claim("improvement_in_time", "more than", "0", "ms", _ours(2, "runtime", **TABLE_2),
                  lambda ours, *others: difference(least(*others), ours),
                  note="IMDN is faster; two sentences further on the paper excepts it."),
        ],
        "the GPU consumption of our SAFMN is only 10% of the CARN series": [
            Claim("memory_of_carn", "exactly", "10", "%", _ours(2, "gpu_memory", carn="carn"), percent,
                  note="CARN itself; the ratio rounds to 9 %, so the sentence understates the saving."),
            Claim("memory_of_carn_m", "exactly", "10", "%", _ours(2, "gpu_memory", carn_m="carn_m"), percent,
                  note="CARN-M, the other of the series."),
            Claim("memory_of_carn_series", "exactly", "10", "%", _ours(2, "gpu_memory", carn="carn", carn_m="carn_m"),
                  lambda ours, *series: percent(ours, mean(*series)), note="The mean of the series."),
        ],
        "4% of LAPAR-A": [
            Claim("memory_of_lapar", "exactly", "4", "%", _ours(2, "gpu_memory", lapar="lapar_a"), percent),
        ],
        "the running time is nearly twice as fast as other evaluated methods, except for IMDN": [
            Claim("twice_as_fast_as_carn_m", "nearly", "2", "times", _ours(2, "runtime", carn_m="carn_m"), _times),
            Claim("twice_as_fast_as_carn", "nearly", "2", "times", _ours(2, "runtime", carn="carn"), _times),
            Claim("twice_as_fast_as_edsr", "nearly", "2", "times", _ours(2, "runtime", edsr="edsr_baseline"), _times),
            Claim("twice_as_fast_as_lapar", "nearly", "2", "times", _ours(2, "runtime", lapar="lapar_a"), _times),
        ],
        "Compared to IMDN [20], our method has a similar running time speed": [
            Claim("time_of_imdn", "similar", "", "%", _ours(2, "runtime", imdn="imdn"),
                  lambda ours, imdn: Span.point(0) - percent_less(ours, imdn)),
        ],
        "while significantly reducing memory usage": [
            Claim("memory_less_than_imdn", "much less", "", "%", _ours(2, "gpu_memory", imdn="imdn"), percent_less),
        ],
    },
    "5": {
        # SAFM
        "Without it, the PSNR values will drop by 0.17dB (30.26 vs. 30.43)": [
            Claim("safm_none_div2k", "exactly", "0.17", "dB", _ours(3, "div2k_val_psnr", without="safm_none"),
                  difference),
        ],
        "0.34dB (30.09 vs. 30.43) on the DIV2K-val and Manga109 datasets": [
            Claim("safm_none_manga109", "exactly", "0.34", "dB", _ours(3, "manga109_psnr", without="safm_none"),
                  difference),
        ],
        "Without this operation, the baseline model is lowered by 0.11dB on the Manga109 dataset.": [
            Claim("modulation", "exactly", "0.11", "dB", _ours(3, "manga109_psnr", without="no_fm"), difference),
        ],
        "A noticeable performance drop of 0.13dB on the Manga109 dataset is observed without these multi-scale "
        "features.": [
            Claim("multi_scale", "exactly", "0.13", "dB", _ours(3, "manga109_psnr", without="no_mr"), difference),
        ],
        "Compared to using adaptive average pooling or nearest interpolation, adaptive max pooling allows the model to "
        "detect discriminative features, resulting in better reconstruction results.": [
            Claim("max_pooling", "more than", "0", "dB",
                  _ours_on(TABLE_3_SETS, 3, average="avg_pool", nearest="nearest_pool"), _smallest_gain,
                  note=FOUR_GAINS),
        ],
        "Combined with the modulation mechanism, it brings a PSNR improvement of 0.14dB on the Manga109 dataset": [
            Claim("aggregation", "exactly", "0.14", "dB", _ours(3, "manga109_psnr", without="no_fa"), difference,
                  read=True, note="Read as aggregation in a network that has modulation, row (c)."),
            Claim("aggregation_and_modulation", "exactly", "0.14", "dB", _ours(3, "manga109_psnr", without="no_fm_fa"),
                  difference, read=True, note="Read as aggregation and modulation together, row (a) + (c)."),
        ],
        "leads to a PSNR reduction of 0.12dB and 0.2dB on the DIV2K-val and Manga109 datasets": [
            Claim("all_three_div2k", "exactly", "0.12", "dB", _ours(3, "div2k_val_psnr", without="no_fm_mr_fa"),
                  difference),
            Claim("all_three_manga109", "exactly", "0.20", "dB", _ours(3, "manga109_psnr", without="no_fm_mr_fa"),
                  difference, note="The sentence's 0.2 is held to two decimals, as the 0.12 beside it."),
        ],
        "better experimental results can be achieved with GELU than with Sigmoid or without GELU": [
            Claim("gelu", "more than", "0", "dB", _ours_on(TABLE_3_SETS, 3, sigmoid="gelu_sigmoid", none="gelu_none"),
                  _smallest_gain, note=FOUR_GAINS),
        ],
        "our proposed SAFM can effectively exploit non-local feature interactions with small memory and computational "
        "costs": [
            Claim("small_cost_in_flops", "small", "", "%", _ours(3, "flops", without="safm_none"), _part,
                  note="The part of all FLOPs that goes when SAFM goes."),
            Claim("small_cost_in_params", "small", "", "%", _ours(3, "params", without="safm_none"), _part,
                  note="The part of all parameters, " + LINKED),
            Claim("small_cost_in_acts", "small", "", "%", _ours(3, "activations", without="safm_none"), _part,
                  note="The part of all activations, " + LINKED),
        ],
        # CCM
        "using SE blocks, its performance is almost the same as without them": [
            Claim("se_almost_the_same", "almost the same", "", "dB", _ours_on(TABLE_3_SETS, 3, se="ccm_se"),
                  _largest_distance, note=LARGER_DISTANCE),
        ],
        "we do not use the SE blocks for saving parameters": [
            Claim("se_saves_parameters", "more than", "0", "K", _ours(3, "params", se="ccm_se"), _increase),
        ],
        "Without it, the model only achieves the accuracy of 29.69dB and 28.49dB on DIV2K-val and Manga109 datasets": [
            Claim("ccm_none_div2k", "exactly", "29.69", "dB", _cells(3, "div2k_val_psnr", without="ccm_none"), _itself),
            Claim("ccm_none_manga109", "exactly", "28.49", "dB", _cells(3, "manga109_psnr", without="ccm_none"),
                  _itself),
        ],
        "there is a significant performance drop of 0.63dB (29.80 vs. 30.43) on the Manga109 dataset": [
            Claim("channel_mlp", "exactly", "0.63", "dB", _ours(3, "manga109_psnr", mlp="channel_mlp"), difference),
        ],
        "For the inverted residual block, the performance is highly similar to that of CCM": [
            Claim("inverted_residual_performance", "almost the same", "", "dB",
                  _ours_on(TABLE_3_SETS, 3, inverted="inverted_residual"), _largest_distance, note=LARGER_DISTANCE),
        ],
        "the corresponding #Acts is increased by nearly 33M": [
            Claim("inverted_residual_acts", "nearly", "33", "M", _ours(3, "activations", inverted="inverted_residual"),
                  _increase, note="It is a little more than 33 M, not less."),
        ],
        # Layer normalisation
        "does not converge well at small ones with its PSNR of only 30.15dB and 29.74dB on the DIV2K-val and Manga109 "
        "datasets": [
            Claim("ln_none_div2k", "exactly", "30.15", "dB", _cells(3, "div2k_val_psnr", without="ln_none_low_lr"),
                  _itself),
            Claim("ln_none_manga109", "exactly", "29.74", "dB", _cells(3, "manga109_psnr", without="ln_none_low_lr"),
                  _itself),
        ],
        "the BN family decrease the PSNR/SSIM values by a large margin": [
            Claim("bn_family_psnr", "large margin", "", "dB", _ours_on(TABLE_3_SETS, 3, bn="ln_bn", fbn="ln_fbn"),
                  _smallest_gain, note=FOUR_DROPS),
            Claim("bn_family_ssim", "large margin", "", "SSIM",
                  _ours_on(TABLE_3_SETS, 3, "ssim", bn="ln_bn", fbn="ln_fbn"), _smallest_gain, note=FOUR_DROPS),
        ],
        "its performance is not as good as that of using LayerNorm": [
            Claim("l2_normalization", "more than", "0", "dB", _ours_on(TABLE_3_SETS, 3, l2="ln_l2"), _smallest_gain,
                  note="On both datasets; the number is the smaller drop."),
        ],
        # Table 4
        "Table 4 shows that the performance gradually improves as #N increases.": [
            Claim("more_blocks_div2k", "more than", "0", "dB", _cells(4, "div2k_val_psnr", **TABLE_4), smallest_step),
            Claim("more_blocks_manga109", "more than", "0", "dB", _cells(4, "manga109_psnr", **TABLE_4), smallest_step),
        ],
        # Limitations
        "Although our SAFMN has better overall performance than the evaluated methods [1, 20, 49, 28, 45]": [
            Claim("better_overall", "more than", "0", "dB",
                  _ours_on_table_1(4, TABLE_1_SETS[:4], carn="carn", imdn="imdn", smsr="smsr", lapar="lapar_a",
                                   mixer="shufflemixer"),
                  lambda ours, *others: mean(*ours) - greatest(*(mean(*other) for other in others)), read=True,
                  note="Read as mean PSNR at x4 over the four test sets that all of them have, against the best of "
                  "them. The sentence may mean the trade-off with complexity, which is no number."),
        ],
        "its running time is relatively slow": [
            Claim("relatively_slow", "more than", "0", "ms",
                  _ours(2, "runtime", carn="carn", imdn="imdn", lapar="lapar_a"), _excess, read=True,
                  note="Read as slower than the methods named in the sentence, as far as they are in Table 2. There it "
                  "is slower than IMDN alone, which is also what Section 4.2 says."),
        ],
        "the results show that the utilized LayerNorm layers and residual connections lead to increased runtime": [
            Claim("additions_cost_time", "more than", "0", "ms",
                  _operations(addition="elementwise_addition", layernorm="layernorm") | UNNAMED_OPERATIONS, _excess,
                  read=True, note="Read as the additions of the residual connections taking the most time."),
            Claim("layernorm_costs_time", "more than", "0", "ms",
                  _operations(layernorm="layernorm") | UNNAMED_OPERATIONS, _excess, read=True,
                  note="Read as LayerNorm taking more time than the operations that the sentence does not name. In "
                  "Table 5 it takes less than all of them but nearest interpolation."),
        ],
        "the PSNR performance of SAFMN is suboptimal, especially on the Urban100 dataset": [
            Claim("urban100_worst_x4", "more than", "0", "dB",
                  _ours_and_best(4, "shufflemixer", "shufflemixer", "shufflemixer", "lapar_a", "shufflemixer"),
                  _urban100_beyond_others, read=True,
                  note=URBAN100 + "at x4. On Manga109 the distance is larger, 0.22 dB against 0.17 dB."),
            Claim("urban100_worst_x3", "more than", "0", "dB",
                  _ours_and_best(3, "shufflemixer", "shufflemixer", "shufflemixer", "smsr", "shufflemixer"),
                  _urban100_beyond_others, read=True, note=URBAN100 + "at x3."),
            Claim("urban100_worst_x2", "more than", "0", "dB",
                  _ours_and_best(2, "shufflemixer", "smsr", "imdn", "smsr", "imdn"), _urban100_beyond_others, read=True,
                  note=URBAN100 + "at x2."),
        ],
    },
    "6": {
        "the proposed SAFMN model is more efficient than state-of-the-art methods": [
            Claim("fewest_parameters", "more than", "0", "K", _ours(1, "params", **TABLE_1), _lead, read=True,
                  note="Read as the fewest parameters of the networks from CARN on in Table 1, x4."),
            Claim("fewest_flops", "more than", "0", "G", _ours(1, "flops", **TABLE_1), _lead, read=True,
                  note="Read as the fewest FLOPs of the networks from CARN on in Table 1, x4."),
            Claim("fewest_acts_x4", "more than", "0", "M", _acts_of_table_1(4, "smsr"), _lead, read=True,
                  note="Read as the fewest activations, which Section 4.2 calls the better metric, of the networks "
                  "from CARN on in Table 1, x4. ECBSR-M16C64 has fewer."),
            Claim("fewest_acts_x3", "more than", "0", "M", _acts_of_table_1(3, "smsr", "ecbsr"), _lead, read=True,
                  note=FEWEST_ACTS + "x3, where ECBSR-M16C64 has none."),
            Claim("fewest_acts_x2", "more than", "0", "M", _acts_of_table_1(2, "smsr"), _lead, read=True,
                  note=FEWEST_ACTS + "x2. ECBSR-M16C64 has fewer."),
        ],
    },
}
# fmt: on

CLAIMS = [
    replace(claim, section=section, quotation=quotation)
    for section, quotations in SENTENCES.items()
    for quotation, claims in quotations.items()
    for claim in claims
]
"""All claims in the order of the paper."""
