"""Our BERT against transformers' BertForPreTraining: same weights, same outputs, same loss."""

from __future__ import annotations

import pytest
import torch

from sbldlib.data.draws import Draws
from sbldlib.data.masking import collate, hide_tokens
from sbldlib.data.pairs import Symbols
from sbldlib.models.bert import PRESETS, Bert, BertConfig
from sbldlib.models.bert_objectives import bert_loss

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.peer

SYMBOLS = Symbols(padding=199, classifier=200, separator=201, mask=202)
CONFIG = BertConfig(
    vocabulary_size=203,
    context_length=40,
    num_layers=3,
    num_heads=4,
    width=48,
    init_std=0.15,
    **SYMBOLS._asdict(),
)
NAMES = {
    "token_embedding.": "bert.embeddings.word_embeddings.",
    "segment_embedding.": "bert.embeddings.token_type_embeddings.",
    "position_embedding.": "bert.embeddings.position_embeddings.",
    "embedding_norm.": "bert.embeddings.LayerNorm.",
    "blocks.": "bert.encoder.layer.",
    ".attention.output.": ".attention.output.dense.",
    ".norm1.": ".attention.output.LayerNorm.",
    ".feed_forward.hidden.": ".intermediate.dense.",
    ".feed_forward.output.": ".output.dense.",
    ".norm2.": ".output.LayerNorm.",
    "pooler.": "bert.pooler.dense.",
    "masked_transform.": "cls.predictions.transform.dense.",
    "masked_norm.": "cls.predictions.transform.LayerNorm.",
    "masked_bias": "cls.predictions.bias",
    "next_sentence.": "cls.seq_relationship.",
}


def build_peer(config: BertConfig):
    """transformers' model of the same size."""
    return transformers.BertForPreTraining(
        transformers.BertConfig(
            vocab_size=config.vocabulary_size,
            max_position_embeddings=config.context_length,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            type_vocab_size=config.num_segments,
            layer_norm_eps=config.norm_epsilon,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            pad_token_id=config.padding,
        )
    )


def peer_weights(model: Bert) -> dict[str, torch.Tensor]:
    """Our weights under transformers' names; it keeps query, key and value apart."""
    found = {}
    for name, weight in model.state_dict().items():
        for ours, theirs in NAMES.items():
            name = (
                name.replace(ours, theirs)
                if ours.startswith(".")
                else (theirs + name.removeprefix(ours) if name.startswith(ours) else name)
            )
        if ".query_key_value." in name:
            for part, piece in zip(("query", "key", "value"), weight.chunk(3), strict=True):
                found[name.replace(".query_key_value.", f".self.{part}.")] = piece
        else:
            found[name] = weight
    return found


@pytest.fixture(scope="module")
def both():
    ours = Bert(CONFIG, seed=5).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # biases and norms that do something
        for weight in ours.parameters():
            if weight.ndim == 1:
                weight += 0.2 * torch.randn(weight.shape, generator=generator)
    peer = build_peer(CONFIG).eval()
    missing, unexpected = peer.load_state_dict(peer_weights(ours), strict=False)
    assert not unexpected
    assert set(missing) <= {
        "cls.predictions.decoder.weight",  # tied
        "cls.predictions.decoder.bias",
        "bert.embeddings.position_ids",
    }
    peer.tie_weights()
    return ours, peer


@pytest.fixture(scope="module")
def batch():
    rng = torch.Generator().manual_seed(0)
    rows = [
        tuple(torch.randint(0, 199, (length,), generator=rng).tolist() for length in lengths)
        for lengths in ((12, 9), (18, 19), (2, 3), (17, 1))
    ]
    found = collate(rows, symbols=SYMBOLS, context_length=40)
    found |= hide_tokens(found["input_ids"], symbols=SYMBOLS, draws=Draws("peer", 0))
    found["next_sentence_label"] = torch.tensor([0, 1, 1, 0])
    return found


@torch.no_grad()
def outputs(model, batch):
    return model(batch["input_ids"], batch["token_type_ids"], batch["attention_mask"].bool())


@torch.no_grad()
def test_logits_of_both_heads(both, batch):
    ours, peer = both
    found = outputs(ours, batch)
    expected = peer(**{k: v for k, v in batch.items() if "label" not in k})
    counts = batch["attention_mask"].bool()  # what stands in padding means nothing
    torch.testing.assert_close(
        found.masked_logits_BTV[counts], expected.prediction_logits[counts], rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        found.next_sentence_logits_B2, expected.seq_relationship_logits, rtol=1e-5, atol=1e-5
    )
    assert found.masked_logits_BTV.std() > 0.1  # the agreement is not one of zeros


@torch.no_grad()
def test_hidden_states_of_every_layer_and_the_pooled_vector(both, batch):
    ours, peer = both
    arguments = {k: v for k, v in batch.items() if "label" not in k}
    expected = peer.bert(**arguments, output_hidden_states=True)
    counts = batch["attention_mask"].bool()
    seen = []
    handles = [
        block.register_forward_hook(lambda _m, _i, output: seen.append(output))
        for block in ours.blocks
    ]
    found = outputs(ours, batch)
    for handle in handles:
        handle.remove()
    assert len(seen) == 3
    for layer, (hidden, peer_hidden) in enumerate(
        zip(seen, expected.hidden_states[1:], strict=True)
    ):
        torch.testing.assert_close(
            hidden[counts], peer_hidden[counts], rtol=1e-5, atol=1e-5, msg=f"layer {layer}"
        )
    torch.testing.assert_close(found.pooled_BD, expected.pooler_output, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_loss_of_the_same_batch(both, batch):
    ours, peer = both
    assert float(bert_loss(ours, batch)) == pytest.approx(float(peer(**batch).loss), abs=1e-5)


def test_gradients_of_the_same_batch(both, batch):
    ours, peer = both
    for model in both:
        model.zero_grad()
    bert_loss(ours, batch).backward()
    peer(**batch).loss.backward()
    pairs = {
        "token embedding": (ours.token_embedding, peer.bert.embeddings.word_embeddings),
        "feed-forward": (
            ours.blocks[1].feed_forward.hidden,
            peer.bert.encoder.layer[1].intermediate.dense,
        ),
        "pooler": (ours.pooler, peer.bert.pooler.dense),
    }
    for name, (mine, theirs) in pairs.items():
        torch.testing.assert_close(
            mine.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-6, msg=name
        )


@pytest.mark.parametrize("name", ["bert-base", "bert-large"])
def test_as_many_weights_at_the_published_sizes(name):
    with torch.device("meta"):
        ours, peer = Bert(PRESETS[name]), build_peer(PRESETS[name])
    assert ours.num_parameters() == peer.num_parameters()
