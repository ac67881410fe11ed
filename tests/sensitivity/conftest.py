from __future__ import annotations

import pytest
import torch
from small import EncoderLM, gpt

NUM_LAYERS = 4


def transformers_gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=32, n_positions=8, n_embd=16, n_layer=NUM_LAYERS, n_head=2, initializer_range=0.3
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.GPT2LMHeadModel(config)


MODELS = {"gpt": gpt, "encoder": EncoderLM, "transformers gpt2": transformers_gpt2}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()
