"""How well a model knows a text, in bits per byte: one measure for every model and tokenizer.

Each target token is predicted once, and which tokens these are depends on neither the model's
context nor how far ahead it looks. A loss per token compares models of one tokenizer alone; bits
per byte divide by the text's own bytes.

Legend: B rows, T tokens a row, V vocabulary.

Source: [S] bits per byte as in Gao et al., "The Pile", 2020, arXiv 2101.00027, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.tokenizer import Tokenizer
from ..data.tokens import TokenFile
from ..errors import check_kind, check_positive_int, check_range, shown
from ..losses import device_of, evaluation_mode, logits_of
from ..records import Record


@dataclass(frozen=True, kw_only=True)
class TextScore(Record):
    """How well the target tokens were predicted.

    Attributes:
        nats: mean loss, nats a target token.
        bits_per_byte: the same in bits, by the bytes that the targets stand for.
        accuracy: share of the targets that were named first, in [0, 1].
        num_targets: tokens that were predicted.
        num_bytes: of text that they stand for; the token between documents stands for none.
    """

    nats: float
    bits_per_byte: float
    accuracy: float
    num_targets: int
    num_bytes: int


def score_text(
    model: nn.Module,
    text: TokenFile,
    tokenizer: Tokenizer,
    *,
    first_target: int,
    num_targets: int,
    context_length: int,
    offset: int = 1,
    batch_size: int = 16,
) -> TextScore:
    """Score a model on tokens of a text, the same ones for every context length and offset.

    The text is cut into rows without overlap, as in training: the first target of a row is
    predicted from one token, the last from context_length of them. Runs in evaluation mode
    (restored after), without gradients.

    Args:
        model: maps tokens [B, T] to logits [B, T, V], or to an output with `.logits`.
        text: whose tokens are predicted.
        tokenizer: that made the text; its bytes are counted with it.
        first_target: place in the text of the first token that is predicted, >= offset.
        num_targets: tokens that are predicted, >= 1.
        context_length: T; the last row may be shorter.
        offset: how many tokens after an input its target stands, >= 1.
        batch_size: rows of one forward pass; of no effect on the score.

    Raises:
        ValueError: targets outside the text, or a text that another tokenizer made.

    Example:
        >>> score_text(model, files["test"], tokenizer, first_target=64, num_targets=4096,
        ...     context_length=model.config.context_length, offset=model.config.offset)
    """
    check_kind("model", model, nn.Module, "a torch.nn.Module")
    offset = check_positive_int("offset", offset)
    T = check_positive_int("context_length", context_length)
    B = check_positive_int("batch_size", batch_size)
    targets = _targets(text, tokenizer, first_target, num_targets, offset)
    inputs = text.tokens[first_target - offset : first_target - offset + len(targets)]
    device, nats, right = device_of(model), 0.0, 0
    with torch.no_grad(), evaluation_mode(model):
        for inputs_BT, targets_BT in _rows(inputs, targets, T, B):
            logits_BTV = logits_of(model(inputs_BT.to(device))).float()
            of_each_BT = _losses(logits_BTV, targets_BT.to(device))
            nats += float(of_each_BT.double().sum())
            right += int((logits_BTV.argmax(-1).cpu() == targets_BT).sum())
    return _score(nats, right, targets, tokenizer)


def score_frequencies(
    train: TokenFile,
    text: TokenFile,
    tokenizer: Tokenizer,
    *,
    first_target: int,
    num_targets: int,
) -> TextScore:
    """Score the guess that knows nothing but how often each token stands in another text.

    A model that uses no context at all cannot do better, but by luck. Each token is counted once
    more than it was met, so that none is impossible.

    Args:
        train: whose tokens are counted.
        text, tokenizer, first_target, num_targets: as for `score_text`.

    Raises:
        ValueError: as `score_text`.
    """
    for name, file in (("train", train), ("text", text)):
        _check_file(name, file, tokenizer)
    targets = _targets(text, tokenizer, first_target, num_targets, offset=0)
    counts_V = np.bincount(train.tokens, minlength=tokenizer.vocabulary_size) + 1
    nats_V = -np.log(counts_V / counts_V.sum())
    return _score(
        float(nats_V[targets].sum()), int((targets == counts_V.argmax()).sum()), targets, tokenizer
    )


def score_pairs(
    train: TokenFile,
    text: TokenFile,
    tokenizer: Tokenizer,
    *,
    first_target: int,
    num_targets: int,
    weight: float = 20.0,
) -> TextScore:
    """Score the guess that knows one token of context: how often each token follows it elsewhere.

    A model that is no better has not learnt to use more than the token before.

    Args:
        train: whose neighbours are counted.
        text, tokenizer, first_target, num_targets: as for `score_text`, first_target >= 1.
        weight: as how many more followers of each token the frequencies of all count, > 0.

    Raises:
        ValueError: as `score_text`.
    """
    for name, file in (("train", train), ("text", text)):
        _check_file(name, file, tokenizer)
    weight = check_range("weight", weight, 0, math.inf, low_open=True, high_open=True)
    targets = _targets(text, tokenizer, first_target, num_targets, offset=1)
    before = text.tokens[first_target - 1 : first_target - 1 + len(targets)].astype(np.int64)
    tokens, V = train.tokens.astype(np.int64), tokenizer.vocabulary_size
    likelihoods, right = _by_token_before(tokens, before, targets, weight, V)
    return _score(float(-np.log(likelihoods).sum()), right, targets, tokenizer)


def bytes_of_tokens(tokenizer: Tokenizer) -> np.ndarray:
    """Bytes of text that each token of the vocabulary stands for, [V]; 0 of `end_of_text`."""
    check_kind("tokenizer", tokenizer, Tokenizer, "a Tokenizer, as train_tokenizer returns it")
    letters = map(tokenizer.backend.id_to_token, range(tokenizer.vocabulary_size))
    sizes_V = np.array([len(each) for each in letters])  # byte-level BPE: one letter a byte
    sizes_V[tokenizer.end_of_text] = 0
    return sizes_V


def _by_token_before(
    tokens: np.ndarray, before: np.ndarray, targets: np.ndarray, weight: float, V: int
) -> tuple[np.ndarray, int]:
    """Probability of each target after the token before it, and how many were the likeliest."""
    share_V = (np.bincount(tokens, minlength=V) + 1) / (len(tokens) + V)
    pairs, times = np.unique(tokens[:-1] * V + tokens[1:], return_counts=True)
    likelihoods, right = np.zeros(len(targets)), 0
    for token in np.unique(before):
        of_token = slice(*np.searchsorted(pairs, (token * V, (token + 1) * V)))
        followed_V = weight * share_V
        followed_V[pairs[of_token] - token * V] += times[of_token]
        here = before == token
        likelihoods[here] = followed_V[targets[here]] / followed_V.sum()
        right += int((targets[here] == followed_V.argmax()).sum())
    return likelihoods, right


def _targets(
    text: TokenFile, tokenizer: Tokenizer, first_target: int, num_targets: int, offset: int
) -> np.ndarray:
    """The tokens to predict, or ValueError where the text does not hold them."""
    _check_file("text", text, tokenizer)
    first = check_positive_int("first_target", first_target, minimum=0)
    num = check_positive_int("num_targets", num_targets)
    if first < offset:
        raise ValueError(
            f"first_target={first} has no input {offset} token(s) before it; begin at {offset} or "
            "later, for all models that are to be compared"
        )
    if first + num > text.num_tokens:
        raise ValueError(
            f"first_target={first} and num_targets={num} end at {first + num}; the text has "
            f"{text.num_tokens} tokens"
        )
    return text.tokens[first : first + num].astype(np.int64)


def _check_file(name: str, file: TokenFile, tokenizer: Tokenizer) -> None:
    check_kind(name, file, TokenFile, "a TokenFile, as prepare_tokens returns them")
    check_kind("tokenizer", tokenizer, Tokenizer, "a Tokenizer, as train_tokenizer returns it")
    if file.vocabulary_size != tokenizer.vocabulary_size:
        raise ValueError(
            f"tokenizer={shown(tokenizer)} has {tokenizer.vocabulary_size} tokens, {name} is of "
            f"{file.vocabulary_size}: give the tokenizer that made it"
        )


def _rows(
    inputs: np.ndarray, targets: np.ndarray, T: int, B: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets of B rows at a time; what fills no row is one shorter row at the end."""
    pair = [torch.from_numpy(part.astype(np.int64)) for part in (inputs, targets)]
    num_whole = len(targets) // T
    for start in range(0, num_whole, B):
        places = slice(start * T, min(start + B, num_whole) * T)
        yield pair[0][places].view(-1, T), pair[1][places].view(-1, T)
    if len(targets) % T:
        yield pair[0][None, num_whole * T :], pair[1][None, num_whole * T :]


def _losses(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Nats of each target."""
    if logits_BTV.shape[:-1] != targets_BT.shape:
        raise ValueError(
            f"logits of shape {tuple(logits_BTV.shape)} for tokens of {tuple(targets_BT.shape)}: "
            "there must be one row of logits a token"
        )
    if int(targets_BT.max()) >= logits_BTV.shape[-1]:
        raise ValueError(
            f"the model gives {logits_BTV.shape[-1]} logits, the text holds token "
            f"{int(targets_BT.max())}: it was trained with another vocabulary_size"
        )
    return F.cross_entropy(logits_BTV.flatten(0, -2), targets_BT.flatten(), reduction="none")


def _score(nats: float, right: int, targets: np.ndarray, tokenizer: Tokenizer) -> TextScore:
    num_bytes = int(bytes_of_tokens(tokenizer)[targets].sum())
    if not num_bytes:
        raise ValueError(
            f"num_targets={len(targets)} of these tokens stand for no byte of text; ask for more"
        )
    return TextScore(
        nats=nats / len(targets),
        bits_per_byte=nats / math.log(2) / num_bytes,
        accuracy=right / len(targets),
        num_targets=len(targets),
        num_bytes=num_bytes,
    )
