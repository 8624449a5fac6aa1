//! The Llama family: grouped-query attention with rotary embeddings, SwiGLU, RMSNorm ahead of both.
//!
//! Sources: Llama 2 (arXiv:2307.09288), Llama 3 (arXiv:2407.21783); tensor names and the order of
//! rotated pairs as GGUF files of architecture `llama` have them.

use crate::{
    checkpoint::Gguf,
    config::ModelConfig,
    error::Result,
    ops::{Buffer, BufferId, CacheId, Heads, Linear, Norm, Op, Plan, Then, rope::RopeTable},
    weights::{Precision, WeightId, WeightTableBuilder},
};

const HIDDEN: BufferId = BufferId(0);
const QKV: BufferId = BufferId(1);
const ATTENDED: BufferId = BufferId(2);
const GATED: BufferId = BufferId(3);

pub fn plan(
    gguf: &Gguf,
    config: &ModelConfig,
    precision: Precision,
    rope_divisors: Option<&[f32]>,
) -> Result<Plan> {
    let heads =
        Heads { n_heads: config.n_heads, n_kv_heads: config.n_kv_heads, head_dim: config.head_dim };
    let (n_embd, n_ffn) = (config.n_embd, config.n_ffn);
    let (q_width, kv_width) = (heads.q_width(), heads.kv_width());
    let mut weights = WeightTableBuilder::new(gguf, precision);

    let table =
        weights.matrix("embedding".to_owned(), n_embd, &[("token_embd.weight", config.n_vocab)])?;
    let mut layers = vec![Op::Embed { table, out: HIDDEN }];
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

        let norm = self::norm(&mut weights, config, label("ffn.norm"), &tensor("ffn_norm.weight"))?;
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
        buffers: vec![
            Buffer { name: "hidden", width: n_embd },
            Buffer { name: "qkv", width: heads.qkv_width() },
            Buffer { name: "attended", width: q_width },
            Buffer { name: "gated", width: n_ffn },
            Buffer { name: "logits", width: config.n_vocab },
        ],
        caches: vec![heads; config.n_layers],
        rope: RopeTable {
            frequencies: config.rope.frequencies(rope_divisors),
            magnitude: config.rope.magnitude(),
        },
        layers,
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

fn norm(
    weights: &mut WeightTableBuilder<'_>,
    config: &ModelConfig,
    name: String,
    tensor: &str,
) -> Result<Norm> {
    let gain = weights.vector(name, &[(tensor, config.n_embd)])?;
    Ok(Norm { gain, eps: config.rms_eps })
}

/// The biases of a projection, where the file has them: all or none.
fn optional_bias(
    weights: &mut WeightTableBuilder<'_>,
    name: String,
    tensors: &[(&str, usize)],
) -> Result<Option<WeightId>> {
    if tensors.iter().any(|(tensor, _)| weights.has(tensor)) {
        weights.vector(name, tensors).map(Some)
    } else {
        Ok(None)
    }
}
