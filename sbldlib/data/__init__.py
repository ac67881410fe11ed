"""Data that needs no network: text, arithmetic, tokens, and batches that are pure functions."""

from .arithmetic import (
    KINDS,
    Problem,
    answered,
    chance_level,
    exact_match,
    exact_match_by_kind,
    generate_problems,
)
from .batches import (
    BatchSource,
    MixedBatches,
    ProblemBatches,
    TokenBatches,
    check_vocabulary,
    sequential_batches,
)
from .lesson import LessonData, prepare_lesson_data
from .stream import sample_texts, stream_tokens
from .text import Corpus, Document, corpus_from_texts, load_corpus
from .tokenizer import Tokenizer, train_tokenizer
from .tokens import TokenFile, cached_tokenizer, default_cache_folder, prepare_tokens

__all__ = [
    "KINDS",
    "BatchSource",
    "Corpus",
    "Document",
    "LessonData",
    "MixedBatches",
    "Problem",
    "ProblemBatches",
    "TokenBatches",
    "TokenFile",
    "Tokenizer",
    "answered",
    "cached_tokenizer",
    "chance_level",
    "check_vocabulary",
    "corpus_from_texts",
    "default_cache_folder",
    "exact_match",
    "exact_match_by_kind",
    "generate_problems",
    "load_corpus",
    "prepare_lesson_data",
    "prepare_tokens",
    "sample_texts",
    "sequential_batches",
    "stream_tokens",
    "train_tokenizer",
]
