"""Weights of vision transformers under the names of timm's, from the files of their authors and of Hugging Face.

timm reads its own files and those of the authors (facebookresearch's dinov2 and dinov3); their names are what
`renamed` turns those of Hugging Face's ``Dinov2Model``, ``Dinov2WithRegistersModel`` and ``DINOv3ViTModel`` into.
"""

import contextlib
import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from timm.models import eva, vision_transformer
from torch import Tensor, nn

from stages.runtime.errors import BadInput

BIASED = "Choose timm's model with qkvb at the end of its name, such as vit_small_patch16_dinov3_qkvb."

HUGGING_FACE = re.compile(r"(?:^|.*\.)embeddings\.patch_embeddings\.(?:projection\.)?weight")
"""The tensor that files of Hugging Face have, with what its classes put before the names."""

NAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^embeddings\.patch_embeddings\.(?:projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.(\w+)$", r"\1"),
    (r"^(?:\w+\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.(?:attention\.)?(query|key|value)\.", lambda found: f".attn.{found[1][0]}_proj."),
    (r"\.attention\.(q|k|v)_proj\.", r".attn.\1_proj."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
)
PLAIN = {"up_proj": "fc1", "down_proj": "fc2"}
GATED = {"gate_proj": "w1", "up_proj": "w2", "down_proj": "w3"}
"""The layers of a DINOv3's MLP under the authors' names."""

PARTS = re.compile(r"(.*\.attn\.)([qkv])_proj\.(weight|bias)")


def as_timm(tensors: Mapping[str, Tensor], backbone: nn.Module, source: str) -> dict[str, Tensor] | None:
    """``tensors`` under timm's names for the transformer in ``backbone``; None if there is none in it.

    Position embeddings of another grid are resampled by timm; tensors of another model stay as they are. ``source`` is
    the file, for messages. BadInput for attention biases that the model does not have.
    """
    kinds = (vision_transformer.VisionTransformer, eva.Eva)
    model: Any = next((each for each in backbone.modules() if isinstance(each, kinds)), None)
    if model is None:
        return None
    own = renamed(tensors)
    biased = next((name for name, each in own.items() if name.endswith("qkv.bias") and each.any()), None)
    if biased is not None and isinstance(model, eva.Eva) and getattr(model.blocks[0].attn, "q_bias", None) is None:
        raise BadInput(f"Weights {source!r} have {biased}, which the backbone has no place for. {BIASED}")
    patches, wanted = own.get("patch_embed.proj.weight"), model.patch_embed.proj.weight
    if patches is not None and patches.shape[-2:] != wanted.shape[-2:]:
        return own
    timm_filter = eva.checkpoint_filter_fn if isinstance(model, eva.Eva) else vision_transformer.checkpoint_filter_fn
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the biases that the model does not have
            return timm_filter(dict(own), model)
    except Exception:  # tensors of another model can make it fail in any way
        return own


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` under the names of the authors, if Hugging Face wrote them; otherwise as they are."""
    first = next((name for name in tensors if HUGGING_FACE.fullmatch(name)), None)
    if first is None:
        return dict(tensors)
    prefix = first[: first.index("embeddings.")]
    found = {}
    for name, tensor in tensors.items():
        name = name.removeprefix(prefix)
        for pattern, new in NAMES:
            name = re.sub(pattern, new, name)
        found[name] = tensor
    if "pos_embed" in found:  # by its mask token timm recognises DINOv2
        found.setdefault("mask_token", torch.zeros(1))
        for name in [name for name in found if ".mlp.gate_proj." in name]:  # its newer files have halves, too
            halves = found.pop(name), found.pop(name.replace("gate_proj", "up_proj"))
            found[name.replace("gate_proj", "w12")] = torch.cat(halves)
        found = {name.replace(".mlp.down_proj.", ".mlp.w3."): tensor for name, tensor in found.items()}
    elif "register_tokens" in found:  # and by the authors' name of registers DINOv3
        found["storage_tokens"] = found.pop("register_tokens")
        gated = any(".mlp.gate_proj." in name for name in found)
        for old, new in (GATED if gated else PLAIN).items():
            found = {name.replace(f".mlp.{old}.", f".mlp.{new}."): tensor for name, tensor in found.items()}
    return joined(found)


def joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values in one tensor ``qkv``, as the authors store them; a missing bias of keys is 0."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        parts = PARTS.fullmatch(name)
        if parts is None:
            found[name] = tensor
            continue
        start, _, kind = parts.groups()
        each = [tensors.get(f"{start}{letter}_proj.{kind}", torch.zeros_like(tensor)) for letter in "qkv"]
        found[f"{start}qkv.{kind}"] = torch.cat(each)
    return found
