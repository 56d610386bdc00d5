"""Vision transformers: images of any size, heads on their patches, weights from timm, the authors and Hugging Face."""

from functools import partial

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from stages.networks.build import build_network
from stages.networks.directions import directions
from stages.networks.predictor import Predictor
from stages.networks.weights import load_weights
from stages.runtime.errors import BadInput
from stages.settings.network import NetworkSettings

WIDTH, CPU = 32, torch.device("cpu")
SMALL = {"embed_dim": WIDTH, "depth": 4, "num_heads": 2, "mlp_ratio": 2, "init_values": 0.5}


def registered(**own):
    def make(pretrained=False, **options):
        kept = {name: value for name, value in options.items() if name in ("num_classes", "dynamic_img_size")}
        kind = own.get("kind", VisionTransformer)
        model = kind(**SMALL | {name: value for name, value in own.items() if name != "kind"} | kept)
        model.pretrained_cfg = {"input_size": (3, 64, 64)}
        return model

    return make


def register(name, **own):
    """A small transformer that timm knows by ``name``."""
    function = registered(**own)
    function.__name__, function.__module__ = name, __name__
    register_model(function)


register("alseg_dinov2", img_size=56, patch_size=14)
register("alseg_dinov2_reg4", img_size=56, patch_size=14, reg_tokens=4, no_embed_class=True)
DINOV3 = {
    "kind": Eva, "img_size": 64, "patch_size": 16, "num_reg_tokens": 4, "use_abs_pos_emb": False, "use_fc_norm": False,
    "use_rot_pos_emb": True, "rope_type": "dinov3", "rope_temperature": 100, "rope_rotate_half": True,
    "norm_layer": partial(nn.LayerNorm, eps=1e-5),
}  # fmt: skip
register("alseg_dinov3", **DINOV3, qkv_bias=False)
register("alseg_dinov3_qkvb", **DINOV3)
register("alseg_dinov3_gated", **DINOV3, qkv_bias=False, swiglu_mlp=True, swiglu_align_to=8)
NAMES = ("alseg_dinov2", "alseg_dinov2_reg4", "alseg_dinov3")


def built(architecture, backbone, **values):
    return build_network(NetworkSettings.load({"architecture": architecture, "backbone": backbone} | values), 3)


# --- any size ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", NAMES)
@pytest.mark.parametrize("architecture", ["light", "linear", "classifier"])
def test_images_of_any_size(architecture, backbone):
    network = built(architecture, backbone).eval()
    for size in ((60, 80), (29, 43), (112, 96)):
        with torch.inference_mode():
            logits = network(torch.rand(2, 3, *size))
        assert logits.shape == (2, 3, *((1, 1) if architecture == "classifier" else size))
        assert logits.isfinite().all()


@pytest.mark.parametrize("backbone, multiple", [("alseg_dinov2", 28), ("tu-alseg_dinov3", 32), ("test_vit", 32)])
def test_dpt_takes_patches_and_images_of_any_size(backbone, multiple):
    """smp's own factors fit patches of a power of two only, and whole numbers of two of them."""
    network = built("dpt", backbone).eval()
    assert network.pad_multiple == multiple
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 45, 61)).shape == (1, 3, 45, 61)


@pytest.mark.parametrize("backbone", ["vit_small_patch14_dinov2", "vit_small_patch16_dinov3"])
def test_published_names(backbone):
    network = built("linear", backbone, depths=4).eval()
    assert network.norm.num_features == 4 * 384
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 30, 46)).shape == (1, 3, 30, 46)


def test_logits_go_back_to_the_image_from_pixel_centres():
    network = built("linear", "test_vit")
    columns = torch.arange(3.0).expand(1, 1, 2, 3)
    pixels = ((torch.arange(40) + 0.5) / 16 - 0.5).clamp(0, 2)
    enlarged = network.enlarged(columns, (20, 40))
    assert enlarged.shape == (1, 1, 20, 40)
    assert torch.allclose(enlarged, pixels.expand_as(enlarged), atol=1e-6)


def supported(backbone="test_resnet", **values):
    settings = NetworkSettings.load(
        {"architecture": "light", "backbone": backbone, "depths": 4, "head_width": 16} | values
    )
    torch.manual_seed(0)
    return build_network(settings, 3, support=True).eval()


def test_support_heads_of_a_light_head_read_its_finest_maps():
    network = supported(lossiness_width=8)
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        inner = network.inner(images)
        assert [tuple(each.shape[1:]) for each in inner.sides] == [
            (channels, 64 // stride, 96 // stride)
            for channels, stride in zip(network.backbone.channels[:3], network.backbone.strides[:3], strict=True)
        ]
        maps = network.support(inner, (64, 96))
        assert torch.equal(network.segment(inner, (64, 96)), network(images))
    assert maps.sides.shape == (2, 3, 3, 64, 96)
    assert torch.allclose(maps.mixing.sum(1), torch.ones(2, 64, 96))
    torch.manual_seed(0)
    settings = {"architecture": "light", "backbone": "test_resnet", "depths": 4, "head_width": 16}
    plain = build_network(NetworkSettings.load(settings), 3).state_dict()
    own = network.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in plain.items())
    assert set(own) - set(plain) == {name for name in own if name.startswith("support.")}


@pytest.mark.parametrize(
    "values, message",
    [
        ({"depths": 2}, "Set --depths 3 or more"),
        ({"side_taps": ("a", "b", "c")}, "--side-taps does not apply to architecture light"),
    ],
)
def test_support_heads_of_a_light_head_are_refused(values, message):
    with pytest.raises(BadInput, match=message):
        supported(**values)


def test_a_light_head_compares_directions():
    network = built("light", "test_vit", classifier="cosine", temperature=0.5).eval()
    assert "classifier.bias" not in network.state_dict()
    images = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        features = network.features(images)
        units = nn.functional.normalize(network.classifier.weight[..., 0, 0], dim=1)
        cosines = torch.einsum("bdhw,cd->bchw", nn.functional.normalize(features, dim=1), units)
        assert torch.allclose(network.coarse(images), cosines / 0.5, atol=1e-6)
        predictor = Predictor(network, [0.5] * 3, [0.25] * 3, CPU, "float32")
        found, own = directions(predictor, (images[0] * 255).to(torch.uint8))
    assert (found.shape[0], own.shape) == (features.shape[1], (3, 32, 48))


def test_a_prediction_has_the_size_of_the_image_and_ignores_what_pads_it():
    network = built("light", "alseg_dinov2").eval()
    image = torch.randint(0, 256, (1, 3, 30, 45), dtype=torch.uint8)
    predictor = Predictor(network, (0.5,) * 3, (0.25,) * 3, CPU)
    assert predictor.prepared(image).shape == (1, 3, 42, 56)
    assert predictor.logits(image).shape == (1, 3, 30, 45)
    features = network.encoded(predictor.prepared(image))
    assert torch.equal(predictor.logits_of(features, (30, 45)), predictor.logits(image))


def test_evenly_spaced_blocks_and_the_last_stages():
    assert built("light", "test_vit", depths=3).backbone.taps == [1, 3, 5]
    assert built("light", "test_vit", depths=1).backbone.taps == [5]
    assert built("light", "test_resnet", depths=2).backbone.strides == [16, 32]


def test_the_prefix_of_smp_is_added():
    assert built("unet", "test_resnet").encoder_name == "tu-test_resnet"
    assert built("unet", "resnet18").encoder_name == "resnet18"


@pytest.mark.parametrize(
    "architecture, backbone, values, words",
    [
        ("light", "beit_base_patch16_224", {}, "takes images of one size only. Choose a transformer that takes any"),
        ("dpt", "beit_base_patch16_224", {}, "takes images of one size only"),
        ("light", "alseg_dinov2", {"depths": 5}, "has only 4 feature maps. Set --depths 4 or less."),
        ("deeplabv3plus", "test_vit", {}, "For test_vit choose --architecture dpt, light or linear."),
        ("unet", "test_vit", {}, "For test_vit choose --architecture dpt, light or linear."),
        ("dpt", "resnet", {}, "Unknown encoder 'resnet'"),
    ],
)
def test_what_does_not_fit_is_refused(architecture, backbone, values, words):
    with pytest.raises(BadInput) as caught:
        built(architecture, backbone, **values)
    assert words in str(caught.value)


# --- weights ----------------------------------------------------------------------------------------------------------


def state_of(backbone):
    torch.manual_seed(1)
    state = timm.create_model(backbone, num_classes=0).state_dict()
    return {name: torch.randn_like(tensor) for name, tensor in state.items() if tensor.is_floating_point()}


def of_authors(backbone, state):
    """The tensors as facebookresearch names them."""
    found = dict(state)
    if "dinov2" in backbone:
        found["mask_token"] = torch.zeros(1, WIDTH)
        if "reg_token" in found:
            found["register_tokens"] = found.pop("reg_token")
            position = torch.randn(1, 1, WIDTH)
            found["pos_embed"] = torch.cat([position, found["pos_embed"]], 1)
            found["cls_token"] = found["cls_token"] - position
        return found
    found["storage_tokens"], found["mask_token"] = found.pop("reg_token"), torch.zeros(1, WIDTH)
    for name in [name for name in found if "gamma_" in name]:
        found[name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = found.pop(name)
    for name in [name for name in found if name.endswith("q_bias")]:
        keys = torch.zeros(WIDTH)
        found[name.replace("q_bias", "qkv.bias")] = torch.cat(
            [found.pop(name), keys, found.pop(name.replace("q_bias", "v_bias"))]
        )
    for ours, theirs in (("fc1_g", "w1"), ("fc1_x", "w2"), ("fc2", "w3")) if "gated" in backbone else ():
        found = {name.replace(f"mlp.{ours}", f"mlp.{theirs}"): tensor for name, tensor in found.items()}
    return found


def of_hugging_face(backbone, authors, old=False):
    """The authors' tensors as transformers names them, ``old``: as in its earlier files of DINOv2."""
    found = {}
    third = "dinov3" in backbone
    for name, tensor in authors.items():
        name = name.replace("storage_tokens", "register_tokens").replace("pos_embed", "position_embeddings")
        if name.startswith(("cls_", "mask_", "register_", "position_")):
            found[f"embeddings.{name}"] = tensor
            continue
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings" + ("" if third else ".projection"))
        name = name.replace("blocks.", "layer." if third else "encoder.layer.").replace(".gamma", ".lambda1")
        name = name.replace(".ls", ".layer_scale")
        attention = ".attention.output.dense" if old else ".attention.o_proj"
        name = name.replace(".attn.proj", attention)
        if third:
            pairs = (
                ("w1", "gate_proj"),
                ("w2", "up_proj"),
                ("w3", "down_proj"),
                ("fc1", "up_proj"),
                ("fc2", "down_proj"),
            )
            for theirs, new in pairs:
                name = name.replace(f".mlp.{theirs}.", f".mlp.{new}.")
        elif name.startswith("norm."):
            name = f"layer{name}"
        if ".attn.qkv." in name:
            for part, value in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                new = f".attention.attention.{part}." if old else f".attention.{part[0]}_proj."
                if not (third and part == "key" and name.endswith("bias")):
                    found[name.replace(".attn.qkv.", new)] = value
            continue
        found[name] = tensor
    return found


EVERY = ("alseg_dinov2", "alseg_dinov2_reg4", "alseg_dinov3", "alseg_dinov3_qkvb", "alseg_dinov3_gated")


@pytest.mark.parametrize("backbone", EVERY)
@pytest.mark.parametrize("kind", ["timm", "authors", "hugging face", "old hugging face"])
def test_files_of_timm_the_authors_and_hugging_face(tmp_path, backbone, kind):
    state = state_of(backbone)
    content = state if kind == "timm" else of_authors(backbone, state)
    if "hugging" in kind:
        content = of_hugging_face(backbone, content, old=kind.startswith("old"))
        assert not {"cls_token", "patch_embed.proj.weight"} & content.keys()
    torch.save(content, tmp_path / "w.pth")
    network = built("linear", backbone)
    report = load_weights(network, str(tmp_path / "w.pth"), backbone)
    assert report.matched == report.total
    for name, tensor in network.backbone.model.state_dict().items():
        assert torch.allclose(tensor, state[name], atol=1e-6), name


def test_positions_of_another_grid_are_resampled_by_timm(tmp_path):
    state = state_of("alseg_dinov2") | {"pos_embed": torch.randn(1, 1 + 6 * 6, WIDTH)}
    torch.save(state, tmp_path / "w.pth")
    network = built("linear", "alseg_dinov2")
    load_weights(network, str(tmp_path / "w.pth"), "alseg_dinov2")
    wanted = resample_abs_pos_embed(state["pos_embed"], [4, 4], num_prefix_tokens=1)
    assert torch.allclose(network.backbone.model.pos_embed, wanted)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"blocks.1.attn.qkv.weight": torch.zeros(3, 3)}, "blocks.1.attn.qkv.weight is (3, 3) instead of (96, 32)"),
        ({"patch_embed.proj.weight": torch.zeros(32, 3, 16, 16)}, "patch_embed.proj.weight is (32, 3, 16, 16)"),
        ({"pos_embed": torch.zeros(1, 18, 32)}, "pos_embed is (1, 18, 32) instead of (1, 17, 32)"),
        ({"norm.bias": None}, "norm.bias is missing"),
    ],
)
def test_other_files_are_refused_by_the_first_tensor_that_differs(tmp_path, change, words):
    state = {name: tensor for name, tensor in (state_of("alseg_dinov2") | change).items() if tensor is not None}
    torch.save(state, tmp_path / "w.pth")
    network = built("linear", "alseg_dinov2")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(BadInput) as caught:
        load_weights(network, str(tmp_path / "w.pth"), "alseg_dinov2")
    assert f"are not of the backbone alseg_dinov2: {words}" in str(caught.value)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


def test_attention_biases_without_a_place_are_refused(tmp_path):
    content = of_authors("alseg_dinov3_qkvb", state_of("alseg_dinov3_qkvb"))
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BadInput, match=r"have blocks\.0\.attn\.qkv\.bias, which .* vit_small_patch16_dinov3_qkvb\."):
        load_weights(built("linear", "alseg_dinov3"), str(tmp_path / "w.pth"), "alseg_dinov3")


def test_images_of_other_bands(tmp_path):
    state = state_of("alseg_dinov2")
    torch.save(state, tmp_path / "w.pth")
    settings = NetworkSettings.load({"architecture": "light", "backbone": "alseg_dinov2", "depths": 2})
    network = build_network(settings, 3, bands=5)
    report = load_weights(network, str(tmp_path / "w.pth"), "alseg_dinov2")
    assert report.matched == report.total
    with torch.inference_mode():
        assert network.eval()(torch.rand(1, 5, 30, 30)).shape == (1, 3, 30, 30)
