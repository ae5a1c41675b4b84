"""Families of the sparse tensors, layers and transformer blocks, and of the structured-latent networks."""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.parity.families.representations import renumbered, stored_order
from tests.parity.golden import GoldenCase, evaluate_input, family
from trellis_modules.attention import (
    AttentionPattern,
    CrossAttention,
    FullPattern,
    MultiHeadRMSNorm,
    Segments,
    SelfAttention,
    SerializedPattern,
    SerializeMode,
    WindowPattern,
    serialize,
    variable_length_attention,
)
from trellis_modules.models import SparseResBlock3d, SparseSubdivideBlock3d, build_model
from trellis_modules.samplers import FlowEulerSampler, SamplingParams
from trellis_modules.sparse import (
    SparseDownsample,
    SparseGroupNorm32,
    SparseLinear,
    SparseSubdivide,
    SparseTensor,
    SparseUpsample,
    sparse_cat,
)
from trellis_modules.sparse.conv import SparseConv3d
from trellis_modules.transformer import (
    FeedForward,
    LayerNorm32,
    ModulatedSparseTransformerBlock,
    ModulatedSparseTransformerCrossBlock,
    SparseTransformerBlock,
    segments_of,
)


def _sparse_input(case: GoldenCase, key: str = "x.feats") -> SparseTensor:
    case.skip("coords", "an input")
    return SparseTensor(case.input(key), case.tensors["coords"])


def _layout(x: SparseTensor) -> Tensor:
    return torch.tensor([(rows.start, rows.stop) for rows in x.layout])


@family("SparseTensor")
def sparse_tensor(case: GoldenCase) -> dict[str, Tensor]:
    x = _sparse_input(case)
    y = x.replace(case.input("y"))
    per_batch, per_feature, per_element = case.input("pb"), case.input("pf"), case.input("el")
    reordered, joined = x[torch.tensor([2, 0])], sparse_cat([x[0], x[1:3]])
    reshaped = x.reshape(3, 2)
    full = SparseTensor.full([0, 0, 0, 1, 2, 1], (2, 3), 0.5)
    computed = {
        "layout": _layout(x),
        "shape": torch.tensor(x.shape),
        "neg": -x,
        "add_scalar": x + 1.5,
        "rsub_scalar": 2.0 - x,
        "rdiv_scalar": 2.0 / x,
        "rmul_scalar": 3.0 * x,
        "mul_per_batch": x * (1 + per_batch),
        "add_per_batch": x + per_batch,
        "mul_per_feat": x * per_feature,
        "mul_per_batch1": x * case.input("p1"),
        "add_per_elem": x + per_element,
        "batch_broadcast": x.expand_batch(per_batch),
        "batch_op_mul": x.apply(lambda feats: feats * x.expand_batch(per_batch)),
        "getitem_2_0.feats": reordered,
        "getitem_2_0.coords": reordered.coords,
        "getitem_2_0.layout": _layout(reordered),
        "getitem_1.coords": x[1].coords,
        "getitem_1.feats": x[1],
        "getitem_mask.coords": x[[True, False, True]].coords,
        "getitem_slice.coords": x[1:3].coords,
        "cat0.coords": joined.coords,
        "cat0.feats": joined,
        "cat0.layout": _layout(joined),
        "cat1.feats": sparse_cat([x, y], dim=1),
        "reshape_3_2.feats": reshaped,
        "reshape_3_2.shape": torch.tensor(reshaped.shape),
        "full.coords": full.coords,
        "full.feats": full,
        "dense": x.dense(),
    }
    for name in ("add", "sub", "mul", "truediv"):
        computed[f"{name.removeprefix('true')}_sparse"] = getattr(operator, name)(x, y)
    computed |= {f"unbind0.{i}.coords": part.coords for i, part in enumerate(x.unbind(0))}
    computed |= {f"reshape_unbind2.{i}": part for i, part in enumerate(reshaped.unbind(2))}
    return _feats(computed)


def _feats(computed: dict[str, Tensor | SparseTensor]) -> dict[str, Tensor]:
    return {
        name: value.feats if isinstance(value, SparseTensor) else value for name, value in computed.items()
    }


@family(
    "SparseLinear(32,12), SparseGroupNorm32(8,32), SparseGroupNorm(4,32,affine=False), "
    "LayerNorm32(32,eps=1e-6), SparseFeedForwardNet(32,2.0), SparseMultiHeadRMSNorm(8,4) on "
    "feats.reshape(N,4,8), SparseLayerNorm32(20)"
)
def sparse_norm(case: GoldenCase) -> dict[str, Tensor]:
    x = _sparse_input(case)
    for name in ("ln_quirk", "ln_quirk_coords"):
        case.skip(name, "a norm over voxels that no released model uses")
    head_norm = case.fill(MultiHeadRMSNorm(8, 4))
    return _feats(
        {
            "linear": case.fill(SparseLinear(32, 12))(x),
            "group_norm32": case.fill(SparseGroupNorm32(8, 32))(x),
            "group_norm_noaffine": SparseGroupNorm32(4, 32, affine=False)(x),
            "layer_norm32": x.apply(case.fill(LayerNorm32(32, eps=1e-6))),
            "layer_norm32_noaffine": x.apply(LayerNorm32(32, eps=1e-6, elementwise_affine=False)),
            "gelu_tanh": x.apply(nn.GELU(approximate="tanh")),
            "silu": x.apply(F.silu),
            "relu": x.apply(F.relu),
            "ffn": x.apply(case.fill(FeedForward(32, 2.0))),
            "head_rms": x.reshape(4, 8).apply(head_norm),
        }
    )


@family("SparseConv3d (spconv SubMConv3d), parameters conv.weight [out,kd,kh,kw,in], conv.bias")
def sparse_conv(case: GoldenCase) -> dict[str, Tensor]:
    x = _sparse_input(case)
    layers = {
        "k3": SparseConv3d(6, 10, 3),
        "k1": SparseConv3d(6, 10, 1),
        "k3_nobias": SparseConv3d(6, 4, 3, bias=False),
        "k3_dilation2": SparseConv3d(6, 10, 3, dilation=2),
    }
    by_hand = SparseConv3d(1, 1, 3, bias=False)
    with torch.no_grad():
        by_hand.conv.weight.copy_(torch.arange(27.0).reshape(1, 3, 3, 3, 1))
    case.skip("hand_coords", "an input")
    hand = SparseTensor(torch.tensor([[1.0], [10.0], [100.0]]), case.tensors["hand_coords"])
    return _feats({name: case.fill(layer)(x) for name, layer in layers.items()} | {"hand_out": by_hand(hand)})


@family("SparseDownsample/Upsample/Subdivide")
def sparse_spatial(case: GoldenCase) -> dict[str, Tensor]:
    x = _sparse_input(case)
    coarse = SparseDownsample(2)(x)
    results = {
        "down2": coarse,
        "down4": SparseDownsample(4)(x),
        "down124": SparseDownsample((1, 2, 4))(x),
        "up2": SparseUpsample(2)(coarse * 2 + 1),
        "sub": SparseSubdivide()(x),
    }
    computed = {"down2_layout": _layout(coarse), "sub_layout": _layout(results["sub"])}
    for name, result in results.items():
        computed |= {f"{name}_feats": result.feats, f"{name}_coords": result.coords}
    return computed


@family("z-order / hilbert codes (10 bits per axis, x most significant); *_t permutes to (y,x,z)")
def serialize_codes(case: GoldenCase) -> dict[str, Tensor]:
    case.skip("points", "an input")
    modes = {
        "z_order": SerializeMode.Z_ORDER,
        "z_order_t": SerializeMode.Z_ORDER_TRANSPOSED,
        "hilbert": SerializeMode.HILBERT,
        "hilbert_t": SerializeMode.HILBERT_TRANSPOSED,
    }
    return {name: serialize(case.tensors["points"], mode) for name, mode in modes.items()}


def _uniform(count: int, length: int) -> Segments:
    return Segments((length,) * count, torch.device("cpu"))


@family("sparse_scaled_dot_product_attention")
def sparse_attention_function(case: GoldenCase) -> dict[str, Tensor]:
    q, dense_kv, qkv = case.input("q"), case.input("kv"), case.input("qkv")
    sparse_kv, dense_q = case.input("sparse kv"), case.input("dense q")
    x = SparseTensor(q, case.tensors["coords"])
    case.skip("coords", "an input")
    voxels = segments_of(x, FullPattern())
    tokens = _uniform(*dense_kv.shape[:2])
    queries = _uniform(*dense_q.shape[:2])
    keys, values = sparse_kv.unbind(1)
    return {
        "qkv": variable_length_attention(*qkv.unbind(1), voxels),
        "q_densekv": variable_length_attention(q, *dense_kv.flatten(0, 1).unbind(1), voxels, tokens),
        "q_sparsekv": variable_length_attention(q, keys, values, voxels),
        "denseq_sparsekv": variable_length_attention(
            dense_q.flatten(0, 1), keys, values, queries, voxels
        ).unflatten(0, dense_q.shape[:2]),
    }


def _pattern(config: dict) -> AttentionPattern:
    mode = config.get("attn_mode", "full")
    if mode == "full":
        return FullPattern()
    shift = config["shift_window"]
    shift = tuple(shift) if isinstance(shift, list) else shift
    if mode == "windowed":
        return WindowPattern(config["window_size"], shift)
    curve = SerializeMode[config["serialize_mode"].removeprefix("SerializeMode.")]
    return SerializedPattern(config["window_size"], curve, config["shift_sequence"], shift)


@family("SparseMultiHeadAttention(48, 4, **config)")
def sparse_attention(case: GoldenCase) -> dict[str, Tensor]:
    x = _sparse_input(case)
    computed = {}
    for name, config in case.config.items():
        if config.get("type") == "cross":
            module = case.fill(CrossAttention(48, config["ctx_channels"], 4))
            context = module.project_context(case.input("context"))
            computed[name] = module(x.feats, context, segments_of(x, FullPattern()))
            continue
        options = {key: value for key, value in config.items() if key in ("qk_rms_norm", "qkv_bias")}
        module = case.fill(SelfAttention(48, 4, **options))
        computed[name] = module(x.feats, segments_of(x, _pattern(config)))
    for name, shift in (("part_win8", 0), ("part_win8_shift4", 4)):
        windows = segments_of(x, WindowPattern(8, shift))
        counts = torch.tensor(windows.lengths)
        computed |= {
            f"{name}.seq_lens": counts,
            f"{name}.batch": x.coords[windows.rows[windows.offsets[:-1].long()], 0],
            f"{name}.window_of_voxel": torch.arange(len(counts)).repeat_interleave(counts)[windows.restore],
        }
    curve = segments_of(x, SerializedPattern(32, SerializeMode.HILBERT, shift_sequence=16))
    return computed | {
        "ser_h_seq16.fwd": curve.rows,
        "ser_h_seq16.bwd": curve.restore,
        "ser_h_seq16.seq_lens": torch.tensor(curve.lengths),
    }


@family("sparse transformer blocks")
def sparse_blocks(case: GoldenCase) -> dict[str, Tensor]:
    x, modulation, context = _sparse_input(case), case.input("mod"), case.input("ctx")
    channels, heads = case.config["C"], case.config["H"]
    plain = SparseTransformerBlock(channels, heads, pattern=WindowPattern(8, 4))
    affine = SparseTransformerBlock(channels, heads, 2.0, qk_rms_norm=True, ln_affine=True)
    modulated = ModulatedSparseTransformerBlock(channels, heads)
    shared = ModulatedSparseTransformerBlock(channels, heads, pattern=WindowPattern(4), share_mod=True)
    cross = ModulatedSparseTransformerCrossBlock(channels, context.shape[-1], heads, qk_rms_norm=True)
    for block in (plain, affine, modulated, shared, cross):
        case.fill(block)
    return _feats(
        {
            "swin_shift": plain(x),
            "full_rms_affine": affine(x),
            "mod": modulated(x, modulation),
            "mod_share": shared(x, case.input("mod6")),
            "modcross": cross(x, modulation, context),
        }
    )


@family("SparseResBlock3d")
def sparse_resblock(case: GoldenCase) -> dict[str, Tensor]:
    x, emb = _sparse_input(case), case.input("emb")
    coarse = case.fill(SparseResBlock3d(**case.config["down"]))(x, emb)
    return {
        "same": case.fill(SparseResBlock3d(*case.config["same"]))(x, emb).feats,
        "down": coarse.feats,
        "down_coords": coarse.coords,
        "up": case.fill(SparseResBlock3d(**case.config["up"]))(coarse, emb).feats,
    }


@family("SparseSubdivideBlock3d")
def sparse_subdivide_block(case: GoldenCase) -> dict[str, Tensor]:
    # The original is told the resolution to plan its convolutions; ours reads the coordinates.
    arguments = {key: value for key, value in case.config.items() if key != "resolution"}
    fine = case.fill(SparseSubdivideBlock3d(**arguments))(_sparse_input(case))
    return {"out": fine.feats, "out_coords": fine.coords}


def _build(case: GoldenCase, name: str, args: dict) -> nn.Module:
    return case.fill(build_model({"name": name, "args": args}, case.name)).eval()


def _record(module: nn.Module, computed: dict[str, Tensor]) -> None:
    """Store the features after each child as the cases name them, and the coarse coordinates."""

    def keep(name: str):
        def hook(_module: nn.Module, _inputs: tuple, output: SparseTensor) -> None:
            computed[f"after_{name}"] = output.feats
            if output.level:
                computed["down_coords"] = output.coords

        return hook

    module.input_layer.register_forward_hook(keep("input_layer"))
    for group, name in (("input_blocks", "input_block"), ("blocks", "block"), ("out_blocks", "out_block")):
        for index, block in enumerate(getattr(module, group, ())):
            block.register_forward_hook(keep(f"{name}_{index}"))


@family("SLatFlowModel")
def slat_flow(case: GoldenCase) -> dict[str, Tensor]:
    module = _build(case, "SLatFlowModel", case.config)
    case.skip("t", "an input")
    computed: dict[str, Tensor] = {}
    _record(module, computed)
    with torch.no_grad():
        output = module(_sparse_input(case), case.tensors["t"], case.input("cond"))
    return computed | {"out": output.velocity.feats}


@family("SLatEncoder")
def slat_encoder(case: GoldenCase) -> dict[str, Tensor]:
    module = _build(case, "SLatEncoder", case.config)
    computed: dict[str, Tensor] = {}
    _record(module, computed)
    with torch.no_grad():
        posterior = module.posterior(_sparse_input(case), sample_posterior=False)
    return computed | _feats(posterior._asdict())


@family("FlowEulerGuidanceIntervalSampler on SLatFlowModel, then slat*std+mean")
def slat_sample(case: GoldenCase) -> dict[str, Tensor]:
    config = case.config
    module = _build(case, "SLatFlowModel", config["model"])
    noise, cond = _sparse_input(case, "noise"), case.input("cond")
    params = SamplingParams(
        config["steps"], config["rescale_t"], config["cfg_strength"], tuple(config["cfg_interval"])
    )
    sampler = FlowEulerSampler(config["sigma_min"])
    result = sampler.sample(module, noise, cond, torch.zeros_like(cond), params, record_trajectory=True)
    label = case.meta["inputs"]["std"].split("label:")[1].split()[0]
    mean, std = case.input("mean"), evaluate_input(f"label:{label} [8]").abs() + 0.5
    return _feats(
        {
            "samples": result.samples,
            "normalized": result.samples * std + mean,
            "mean": mean,
            "std": std,
            "x0_0": result.pred_x_0[0],
            "x0_last": result.pred_x_0[-1],
            **{f"x_t_{i}": x_t for i, x_t in enumerate(result.pred_x_t)},
        }
    )


def _decode(case: GoldenCase) -> tuple[nn.Module, SparseTensor, dict[str, Tensor]]:
    """The decoder of a case, the output of its last layer, and what is recorded on the way."""
    module = _build(case, case.family, case.config)
    computed: dict[str, Tensor] = {}
    _record(module, computed)
    with torch.no_grad():
        output = module.features(_sparse_input(case))
    computed["raw"] = output.feats
    return module, output, computed


@family("SLatGaussianDecoder")
def slat_gaussian_decoder(case: GoldenCase) -> dict[str, Tensor]:
    module, output, computed = _decode(case)
    computed["offset_perturbation"] = module.offset_perturbation
    for index, rows in enumerate(output.layout):
        gaussian = module.represent(output.coords[rows, 1:], output.feats[rows])
        values = {
            "xyz": gaussian.xyz,
            "scaling": gaussian.scaling,
            "rotation": gaussian.rotation,
            "opacity": gaussian.opacity,
            "features": gaussian.features,
            "covariance": gaussian.covariance(),
            "hidden_xyz": gaussian.hidden_xyz,
            "hidden_rotation": gaussian.hidden_rotation,
        }
        computed |= {f"{index}.{name}": value for name, value in values.items()}
    return computed


@family("SLatRadianceFieldDecoder")
def slat_radiance_field_decoder(case: GoldenCase) -> dict[str, Tensor]:
    module, output, computed = _decode(case)
    for index, rows in enumerate(output.layout):
        field = module.represent(output.coords[rows, 1:], output.feats[rows])
        values = {
            "position": field.nodes.position,
            "depth": field.nodes.depth,
            "trivec": field.trivec,
            "density": field.density,
            "features_dc": field.features_dc,
        }
        computed |= {f"{index}.{name}": value for name, value in values.items()} | {"aabb": field.nodes.aabb}
    return computed


@family("SLatMeshDecoder")
def slat_mesh_decoder(case: GoldenCase) -> dict[str, Tensor]:
    module = _build(case, case.family, case.config)
    computed: dict[str, Tensor] = {}
    last_block, first_upsample = module.blocks[-1], module.upsample[0]
    for layer, name in ((last_block, "after_blocks"), (first_upsample, "after_upsample_0")):
        layer.register_forward_hook(lambda _, __, output, name=name: computed.update({name: output.feats}))
    with torch.no_grad():
        output = module.features(_sparse_input(case))
    computed |= {"raw": output.feats, "upsampled_coords": output.coords}
    for index, rows in enumerate(output.layout):
        mesh = module.represent(output.coords[rows, 1:], output.feats[rows])
        order = stored_order(mesh.vertices, case.tensors[f"{index}.vertices"])
        computed |= {
            f"{index}.vertices": mesh.vertices[order],
            f"{index}.faces": renumbered(mesh.faces, order),
        }
        if mesh.vertex_attrs is not None:
            computed[f"{index}.vertex_attrs"] = mesh.vertex_attrs[order]
    return computed
