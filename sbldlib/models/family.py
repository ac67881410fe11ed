"""The family of BERT and GPT as published: shapes, sizes, data and compute, each with its source.

What a paper does not say is None. Parameters are also counted by this kit's own models, and
compute reckoned as six operations a parameter and token, to be held against what was published.

Source: [S] the papers named with each member; compute of GPT-3 and of BERT from Brown et al. 2020,
arXiv 2005.14165, table D.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..errors import check_choice, check_kind
from .bert import PRESETS as BERT_PRESETS
from .bert import Bert
from .gpt import GPT, GPTConfig

PETAFLOP_DAY = 1e15 * 86_400  # floating-point operations: about 10**20
OPERATIONS = 6  # a parameter and token: a multiply-add forward, two backward
GPT1 = "Radford et al. 2018, Improving Language Understanding by Generative Pre-Training"
GPT1_COMPUTE = "OpenAI, Improving language understanding with unsupervised learning, 2018"
GPT2 = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners"
GPT2_SIZES = "sizes as corrected in OpenAI's repository gpt-2"
GPT3 = "Brown et al. 2020, arXiv 2005.14165, table 2.1"
TABLE_D1 = "Brown et al. 2020, arXiv 2005.14165, table D.1"
BERT = "Devlin et al. 2018, arXiv 1810.04805"
GPT3_DATA = "Common Crawl (570 GB filtered) and four more"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One published model.

    Attributes:
        name: what it is called.
        kind: "encoder" or "decoder", what its blocks are.
        year: of its publication.
        num_layers, width, num_heads: L, D, H.
        context_length, vocabulary_size: tokens.
        published_parameters: as its authors round it.
        training_tokens: tokens trained on, repeats counted; None is not published.
        data: what it was trained on, in its authors' words, shortened.
        petaflop_days: published compute, petaflop/s-days; None is not published as a number.
        petaflop_days_between: lower and upper end where only an order was published.
        source: of the shape and size.
        compute_source: of tokens and compute; "" where there are none.
        note: what the published numbers leave open, or contradict.
    """

    name: str
    kind: str
    year: int
    num_layers: int
    width: int
    num_heads: int
    context_length: int
    vocabulary_size: int
    published_parameters: float
    training_tokens: float | None
    data: str
    petaflop_days: float | None
    petaflop_days_between: tuple[float, float] | None = None
    source: str
    compute_source: str = ""
    note: str = ""


def _bert(name: str, preset: str, parameters: float, petaflop_days: float, note: str) -> Member:
    config = BERT_PRESETS[preset]
    return Member(
        name=name, kind="encoder", year=2018, num_layers=config.num_layers, width=config.width,
        num_heads=config.num_heads, context_length=config.context_length,
        vocabulary_size=config.vocabulary_size, published_parameters=parameters,
        training_tokens=250e9, data="BooksCorpus, English Wikipedia; 3.3 G words",
        petaflop_days=petaflop_days, source=BERT, compute_source=TABLE_D1, note=note,
    )  # fmt: skip


def _gpt2(name: str, num_layers: int, width: int, num_heads: int, parameters: float) -> Member:
    is_largest = num_layers == 48
    return Member(
        name=name, kind="decoder", year=2019, num_layers=num_layers, width=width,
        num_heads=num_heads, context_length=1024, vocabulary_size=50_257,
        published_parameters=parameters, training_tokens=None, data="WebText, 40 GB",
        petaflop_days=None, petaflop_days_between=(10.0, 100.0) if is_largest else None,
        source=f"{GPT2}; {GPT2_SIZES}",
        compute_source="Brown et al. 2020, section 6.3" if is_largest else "",
        note='compute published as "tens of petaflop/s-days" alone' if is_largest else "",
    )  # fmt: skip


def _gpt3(
    name: str, shape: tuple[int, int, int], parameters: float, petaflop_days: float, note: str = ""
) -> Member:
    num_layers, width, num_heads = shape
    return Member(
        name=name, kind="decoder", year=2020, num_layers=num_layers, width=width,
        num_heads=num_heads, context_length=2048, vocabulary_size=50_257,
        published_parameters=parameters, training_tokens=300e9, data=GPT3_DATA,
        petaflop_days=petaflop_days, source=GPT3, compute_source=TABLE_D1, note=note,
    )  # fmt: skip


_BERT_TOKENS = (
    "table D.1 reckons with 250 G tokens; BERT's own paper has 1 M steps of at most 131 k tokens"
)
FAMILY: tuple[Member, ...] = (
    Member(
        name="GPT-1", kind="decoder", year=2018, num_layers=12, width=768, num_heads=12,
        context_length=512, vocabulary_size=40_478, published_parameters=117e6,
        training_tokens=None, data="BooksCorpus, over 7,000 books", petaflop_days=0.96,
        source=f"{GPT1}; 117M from GPT-2's paper, vocabulary from the released model",
        compute_source=GPT1_COMPUTE,
        note="compute from 8 GPUs, 30 days and a utilisation of 0.33, not from operations",
    ),
    _bert("BERT base", "bert-base", 110e6, 1.89, _BERT_TOKENS),
    _bert("BERT large", "bert-large", 340e6, 6.16, f"{_BERT_TOKENS}, and 355 M parameters"),
    _gpt2("GPT-2 small", 12, 768, 12, 124e6),
    _gpt2("GPT-2 medium", 24, 1024, 16, 355e6),
    _gpt2("GPT-2 large", 36, 1280, 20, 774e6),
    _gpt2("GPT-2 XL", 48, 1600, 25, 1.5e9),
    _gpt3("GPT-3 Small", (12, 768, 12), 125e6, 2.60),
    _gpt3("GPT-3 Medium", (24, 1024, 16), 350e6, 7.42),
    _gpt3("GPT-3 Large", (24, 1536, 16), 760e6, 15.8),
    _gpt3(
        "GPT-3 XL", (24, 2048, 16), 1.3e9, 27.5,
        "table 2.1 prints 24 heads of 128, which are not 2048; 16 are",
    ),
    _gpt3("GPT-3 2.7B", (32, 2560, 32), 2.7e9, 55.2),
    _gpt3("GPT-3 6.7B", (32, 4096, 32), 6.7e9, 139.0),
    _gpt3(
        "GPT-3 13B", (40, 5120, 40), 13.0e9, 268.0,
        "table 2.1 prints a width of 5140, no multiple of its 40 heads; 40 of 128 are 5120",
    ),
    _gpt3("GPT-3 175B", (96, 12_288, 96), 175e9, 3640.0),
)  # fmt: skip
NAMES = tuple(member.name for member in FAMILY)


def member(name: str) -> Member:
    """The member of this name.

    Raises:
        ValueError: an unknown name; the nearest is suggested.
    """
    return FAMILY[NAMES.index(check_choice("name", name, NAMES))]


def count_parameters(one: Member) -> int:
    """Weights of this kit's own model of the member's shape, built without memory for them.

    An encoder's with its pooler and both heads, a decoder's with the head tied to its embedding.
    GPT-1 has no norm after its last block; ours has, with 1,536 weights.
    """
    check_kind("one", one, Member, "a Member, such as member('GPT-3 175B')")
    shape: dict[str, Any] = {
        "vocabulary_size": one.vocabulary_size,
        "context_length": one.context_length,
        "num_layers": one.num_layers,
        "num_heads": one.num_heads,
        "width": one.width,
    }
    with torch.device("meta"):
        if one.kind == "encoder":
            return Bert.from_preset("bert-base", **shape).num_parameters()
        return GPT(GPTConfig(**shape)).num_parameters()


def reckoned_petaflop_days(one: Member) -> float | None:
    """Six operations a parameter and token, in petaflop/s-days; None without published tokens.

    Source: [S] Kaplan et al. 2020, arXiv 2001.08361, section 2.1, which leaves attention out.
    """
    if one.training_tokens is None:
        return None
    return OPERATIONS * count_parameters(one) * one.training_tokens / PETAFLOP_DAY
