//! gpt-oss: attention with sinks, over a sliding window in every other layer, and a mixture of experts.
//!
//! The router's choices hang on everything before it, and where it errs a token goes through other
//! experts. Hence only the unembedding follows [`Precision::Compact`]; the rest stays as published.
//!
//! Sources: OpenAI's `gpt_oss/torch/model.py` and the model card (arXiv:2508.10925); tensor names as
//! the checkpoints on the Hugging Face hub and GGUF files of architecture `gpt-oss` have them.

use super::{heads, norm, optional_bias, rope_table};
use crate::{
    checkpoint::TensorTable,
    config::ModelConfig,
    error::{Error, Result},
    ops::{Buffer, BufferId, CacheId, CacheShape, Experts, Linear, Op, Plan, Then, ThenExperts},
    weights::{Precision, WeightTableBuilder},
};

const HIDDEN: BufferId = BufferId(0);
const QKV: BufferId = BufferId(1);
const ATTENDED: BufferId = BufferId(2);
const ROUTER: BufferId = BufferId(3);
const ROUTING: BufferId = BufferId(4);
const GATED: BufferId = BufferId(5);
const LOGITS: BufferId = BufferId(6);

pub fn plan(
    tensors: &TensorTable,
    config: &ModelConfig,
    precision: Precision,
    rope_divisors: Option<&[f32]>,
) -> Result<Plan> {
    let (Some(experts), Some(sliding)) = (config.experts, &config.sliding) else {
        return Err(Error::invalid("gpt-oss has experts and a sliding window"));
    };
    let heads = heads(config);
    let (n_embd, n_ffn) = (config.n_embd, config.n_ffn);
    let (q_width, kv_width) = (heads.q_width(), heads.kv_width());
    let (n_experts, n_used) = (experts.n_experts, experts.n_used);
    let mut weights = WeightTableBuilder::new(tensors, precision);
    let is_gguf = weights.has("token_embd.weight");
    let named = |gguf: &'static str, hugging_face: &'static str| {
        if is_gguf { gguf } else { hugging_face }
    };

    let embedding = named("token_embd.weight", "model.embed_tokens.weight");
    let table =
        weights.exact_matrix("embedding".to_owned(), n_embd, &[(embedding, config.n_vocab)])?;
    let mut layers = vec![Op::Embed { table, out: HIDDEN }];
    let mut layer_ends = vec![layers.len()];
    let mut caches = Vec::new();
    for layer in 0..config.n_layers {
        let tensor = |gguf: &str, hugging_face: &str| match is_gguf {
            true => format!("blk.{layer}.{gguf}"),
            false => format!("model.layers.{layer}.{hugging_face}"),
        };
        let label = |name: &str| format!("layers.{layer}.{name}");

        let q = tensor("attn_q", "self_attn.q_proj");
        let k = tensor("attn_k", "self_attn.k_proj");
        let v = tensor("attn_v", "self_attn.v_proj");
        let gain = tensor("attn_norm.weight", "input_layernorm.weight");
        let norm = norm(&mut weights, config, label("attn.norm"), &gain)?;
        let qkv = weights.exact_matrix(
            label("attn.qkv"),
            n_embd,
            &[
                (&format!("{q}.weight"), q_width),
                (&format!("{k}.weight"), kv_width),
                (&format!("{v}.weight"), kv_width),
            ],
        )?;
        let qkv_bias = optional_bias(
            &mut weights,
            label("attn.qkv.bias"),
            &[
                (&format!("{q}.bias"), q_width),
                (&format!("{k}.bias"), kv_width),
                (&format!("{v}.bias"), kv_width),
            ],
        )?;
        layers.push(Op::Linear(Linear {
            weight: qkv,
            bias: qkv_bias,
            norm: Some(norm),
            x: HIDDEN,
            out: QKV,
            then: Then::Store,
        }));

        let cache = CacheId(layer);
        caches.push(CacheShape { heads, window: sliding.layers[layer].then_some(sliding.size) });
        layers.push(Op::Rope {
            qkv: QKV,
            cache,
            heads,
            pairing: config.rope.pairing,
            n_rot: config.rope.n_rot,
        });
        let sinks = tensor("attn_sinks.weight", "self_attn.sinks");
        layers.push(Op::Attention {
            qkv: QKV,
            cache,
            out: ATTENDED,
            heads,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
            sinks: Some(weights.vector(label("attn.sinks"), &[(&sinks, heads.n_heads)])?),
        });
        let out = tensor("attn_output", "self_attn.o_proj");
        layers.push(Op::Linear(Linear {
            weight: weights.exact_matrix(
                label("attn.out"),
                q_width,
                &[(&format!("{out}.weight"), n_embd)],
            )?,
            bias: optional_bias(
                &mut weights,
                label("attn.out.bias"),
                &[(&format!("{out}.bias"), n_embd)],
            )?,
            norm: None,
            x: ATTENDED,
            out: HIDDEN,
            then: Then::Add,
        }));

        let gain = tensor("post_attention_norm.weight", "post_attention_layernorm.weight");
        let norm = super::norm(&mut weights, config, label("ffn.norm"), &gain)?;
        let router = tensor("ffn_gate_inp", "mlp.router");
        layers.push(Op::Linear(Linear {
            weight: weights.exact_matrix(
                label("ffn.router"),
                n_embd,
                &[(&format!("{router}.weight"), n_experts)],
            )?,
            bias: optional_bias(
                &mut weights,
                label("ffn.router.bias"),
                &[(&format!("{router}.bias"), n_experts)],
            )?,
            norm: Some(norm),
            x: HIDDEN,
            out: ROUTER,
            then: Then::Store,
        }));
        layers.push(Op::Route { logits: ROUTER, n_used, out: ROUTING });

        let (gate_up, gate_up_bias, down, down_bias) = match is_gguf {
            true => {
                let [gate, up, down] =
                    ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"].map(|name| tensor(name, ""));
                let [gate_weight, up_weight, down_weight] =
                    [&gate, &up, &down].map(|name| format!("{name}.weight"));
                let [gate_bias, up_bias, down_bias] =
                    [&gate, &up, &down].map(|name| format!("{name}.bias"));
                (
                    weights.expert_matrix(
                        label("ffn.gate_up"),
                        n_experts,
                        n_embd,
                        &[(&gate_weight, n_ffn), (&up_weight, n_ffn)],
                    )?,
                    weights.expert_vector(
                        label("ffn.gate_up.bias"),
                        n_experts,
                        &[(&gate_bias, n_ffn), (&up_bias, n_ffn)],
                        1,
                    )?,
                    weights.expert_matrix(
                        label("ffn.down"),
                        n_experts,
                        n_ffn,
                        &[(&down_weight, n_embd)],
                    )?,
                    weights.expert_vector(
                        label("ffn.down.bias"),
                        n_experts,
                        &[(&down_bias, n_embd)],
                        1,
                    )?,
                )
            }
            false => {
                let [gate_up, down] = ["gate_up_proj", "down_proj"]
                    .map(|name| tensor("", &format!("mlp.experts.{name}")));
                // Gates and ups alternate by rows.
                (
                    weights.mxfp4_expert_matrix(
                        label("ffn.gate_up"),
                        [n_experts, 2 * n_ffn, n_embd],
                        [&format!("{gate_up}_blocks"), &format!("{gate_up}_scales")],
                        2,
                    )?,
                    weights.expert_vector(
                        label("ffn.gate_up.bias"),
                        n_experts,
                        &[(&format!("{gate_up}_bias"), 2 * n_ffn)],
                        2,
                    )?,
                    weights.mxfp4_expert_matrix(
                        label("ffn.down"),
                        [n_experts, n_embd, n_ffn],
                        [&format!("{down}_blocks"), &format!("{down}_scales")],
                        1,
                    )?,
                    weights.expert_vector(
                        label("ffn.down.bias"),
                        n_experts,
                        &[(&format!("{down}_bias"), n_embd)],
                        1,
                    )?,
                )
            }
        };
        layers.push(Op::Experts(Experts {
            weight: gate_up,
            bias: Some(gate_up_bias),
            norm: Some(norm),
            n_experts,
            n_used,
            x: HIDDEN,
            routing: ROUTING,
            out: GATED,
            then: ThenExperts::SwiGlu { limit: experts.swiglu_limit },
        }));
        layers.push(Op::Experts(Experts {
            weight: down,
            bias: Some(down_bias),
            norm: None,
            n_experts,
            n_used,
            x: GATED,
            routing: ROUTING,
            out: HIDDEN,
            then: ThenExperts::Add,
        }));
        layer_ends.push(layers.len());
    }

    let norm = norm(
        &mut weights,
        config,
        "head.norm".to_owned(),
        named("output_norm.weight", "model.norm.weight"),
    )?;
    let output = named("output.weight", "lm_head.weight");
    let unembedding = match weights.has(output) {
        true => weights.matrix("unembedding".to_owned(), n_embd, &[(output, config.n_vocab)])?,
        false => table,
    };
    Ok(Plan {
        weights: weights.finish(),
        precision,
        buffers: vec![
            Buffer { name: "hidden", width: n_embd },
            Buffer { name: "qkv", width: heads.qkv_width() },
            Buffer { name: "attended", width: q_width },
            Buffer { name: "router", width: n_experts },
            Buffer { name: "routing", width: 2 * n_used },
            Buffer { name: "gated", width: n_used * n_ffn },
            Buffer { name: "logits", width: config.n_vocab },
        ],
        caches,
        rope: rope_table(config, rope_divisors),
        layers,
        layer_ends,
        head: Linear {
            weight: unembedding,
            bias: None,
            norm: Some(norm),
            x: HIDDEN,
            out: LOGITS,
            then: Then::Store,
        },
        n_vocab: config.n_vocab,
    })
}
