//! The Llama family: grouped-query attention with rotary embeddings, SwiGLU, RMSNorm ahead of both.
//!
//! Sources: Llama 2 (arXiv:2307.09288), Llama 3 (arXiv:2407.21783); tensor names and the order of
//! rotated pairs as GGUF files of architecture `llama` have them.

use super::{heads, norm, optional_bias, rope_table};
use crate::{
    checkpoint::TensorTable,
    config::ModelConfig,
    error::Result,
    ops::{Buffer, BufferId, CacheId, CacheNumbers, CacheShape, Linear, Op, Plan, Then},
    weights::{Precision, WeightTableBuilder},
};

const HIDDEN: BufferId = BufferId(0);
const QKV: BufferId = BufferId(1);
const ATTENDED: BufferId = BufferId(2);
const GATED: BufferId = BufferId(3);

pub fn plan(
    tensors: &TensorTable,
    config: &ModelConfig,
    precision: Precision,
    rope_divisors: Option<&[f32]>,
) -> Result<Plan> {
    let heads = heads(config);
    let (n_embd, n_ffn) = (config.n_embd, config.n_ffn);
    let (q_width, kv_width) = (heads.q_width(), heads.kv_width());
    let mut weights = WeightTableBuilder::new(tensors, precision);

    let table =
        weights.matrix("embedding".to_owned(), n_embd, &[("token_embd.weight", config.n_vocab)])?;
    let mut layers = vec![Op::Embed { table, out: HIDDEN }];
    let mut layer_ends = vec![layers.len()];
    for layer in 0..config.n_layers {
        let tensor = |name: &str| format!("blk.{layer}.{name}");
        let label = |name: &str| format!("layers.{layer}.{name}");
        let [q, k, v] = ["attn_q", "attn_k", "attn_v"].map(&tensor);
        let cache = CacheId(layer);

        let norm = norm(&mut weights, config, label("attn.norm"), &tensor("attn_norm.weight"))?;
        let qkv = weights.matrix(
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
        layers.push(Op::Rope {
            qkv: QKV,
            cache,
            heads,
            pairing: config.rope.pairing,
            n_rot: config.rope.n_rot,
        });
        layers.push(Op::Attention {
            qkv: QKV,
            cache,
            out: ATTENDED,
            heads,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
            sinks: None,
        });
        let out = weights.matrix(
            label("attn.out"),
            q_width,
            &[(&tensor("attn_output.weight"), n_embd)],
        )?;
        let out_bias = optional_bias(
            &mut weights,
            label("attn.out.bias"),
            &[(&tensor("attn_output.bias"), n_embd)],
        )?;
        layers.push(Op::Linear(Linear {
            weight: out,
            bias: out_bias,
            norm: None,
            x: ATTENDED,
            out: HIDDEN,
            then: Then::Add,
        }));

        let norm =
            super::norm(&mut weights, config, label("ffn.norm"), &tensor("ffn_norm.weight"))?;
        let gate_up = weights.paired_matrix(
            label("ffn.gate_up"),
            n_embd,
            [(&tensor("ffn_gate.weight"), n_ffn), (&tensor("ffn_up.weight"), n_ffn)],
        )?;
        let gate_up_bias = optional_bias(
            &mut weights,
            label("ffn.gate_up.bias"),
            &[(&tensor("ffn_gate.bias"), n_ffn), (&tensor("ffn_up.bias"), n_ffn)],
        )?;
        layers.push(Op::Linear(Linear {
            weight: gate_up,
            bias: gate_up_bias,
            norm: Some(norm),
            x: HIDDEN,
            out: GATED,
            then: Then::SwiGlu,
        }));
        let down =
            weights.matrix(label("ffn.down"), n_ffn, &[(&tensor("ffn_down.weight"), n_embd)])?;
        let down_bias = optional_bias(
            &mut weights,
            label("ffn.down.bias"),
            &[(&tensor("ffn_down.bias"), n_embd)],
        )?;
        layers.push(Op::Linear(Linear {
            weight: down,
            bias: down_bias,
            norm: None,
            x: GATED,
            out: HIDDEN,
            then: Then::Add,
        }));
        layer_ends.push(layers.len());
    }

    let norm = norm(&mut weights, config, "head.norm".to_owned(), "output_norm.weight")?;
    let unembedding = if weights.has("output.weight") {
        let name = "unembedding".to_owned();
        weights.matrix(name, n_embd, &[("output.weight", config.n_vocab)])?
    } else {
        table
    };
    let logits = BufferId(4);
    Ok(Plan {
        weights: weights.finish(),
        precision,
        buffers: vec![
            Buffer { name: "hidden", width: n_embd },
            Buffer { name: "qkv", width: heads.qkv_width() },
            Buffer { name: "attended", width: q_width },
            Buffer { name: "gated", width: n_ffn },
            Buffer { name: "logits", width: config.n_vocab },
        ],
        caches: vec![
            CacheShape { heads, window: None, numbers: CacheNumbers::Full };
            config.n_layers
        ],
        rope: rope_table(config, rope_divisors),
        layers,
        layer_ends,
        head: Linear {
            weight: unembedding,
            bias: None,
            norm: Some(norm),
            x: HIDDEN,
            out: logits,
            then: Then::Store,
        },
        n_vocab: config.n_vocab,
    })
}
