//! gpt-oss: attention with sinks, over a sliding window in every other layer, and a mixture of experts.
//!
//! The router's choices hang on everything before it, and where it errs a token goes through other
//! experts. Hence only the unembedding follows [`Precision::Compact`]; the rest stays as published.
//!
//! Sources: OpenAI's `gpt_oss/torch/model.py` and the model card (arXiv:2508.10925); tensor names as
//! the checkpoints on the Hugging Face hub and GGUF files of architecture `gpt-oss` have them.

use std::fmt::Display;

use super::{heads, norm, optional_bias, rope_table};
use crate::{
    checkpoint::TensorTable,
    config::{ExpertsConfig, ModelConfig},
    error::{Error, Result},
    ops::{
        Buffer, BufferId, CacheId, CacheNumbers, CacheShape, Experts, Heads, Linear, Norm, Op,
        Plan, Then, ThenExperts,
    },
    weights::{Precision, WeightId, WeightTableBuilder},
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
    let mut writer = Writer {
        weights: WeightTableBuilder::new(tensors, precision),
        config,
        experts,
        heads,
        is_gguf: tensors.get("token_embd.weight").is_some(),
        ops: Vec::new(),
    };
    let table = writer.embed()?;
    let mut layer_ends = vec![writer.ops.len()];
    for layer in 0..config.n_layers {
        writer.attention(layer)?;
        writer.mixture(layer)?;
        layer_ends.push(writer.ops.len());
    }
    let head = writer.unembed(table)?;
    Ok(Plan {
        weights: writer.weights.finish(),
        precision,
        buffers: vec![
            Buffer { name: "hidden", width: config.n_embd },
            Buffer { name: "qkv", width: heads.qkv_width() },
            Buffer { name: "attended", width: heads.q_width() },
            Buffer { name: "router", width: experts.n_experts },
            Buffer { name: "routing", width: 2 * experts.n_used },
            Buffer { name: "gated", width: experts.n_used * config.n_ffn },
            Buffer { name: "logits", width: config.n_vocab },
        ],
        caches: sliding
            .layers
            .iter()
            .map(|slides| CacheShape {
                heads,
                window: slides.then_some(sliding.size),
                numbers: CacheNumbers::Full,
            })
            .collect(),
        rope: rope_table(config, rope_divisors),
        layers: writer.ops,
        layer_ends,
        head,
        n_vocab: config.n_vocab,
    })
}

/// Writes the operations, taking weights as it goes.
struct Writer<'a> {
    weights: WeightTableBuilder<'a>,
    config: &'a ModelConfig,
    experts: ExpertsConfig,
    heads: Heads,
    /// Whether tensors are named as in GGUF files, else as on the Hugging Face hub.
    is_gguf: bool,
    ops: Vec<Op>,
}

impl Writer<'_> {
    /// The name of a tensor of the whole model.
    fn named<'n>(&self, gguf: &'n str, hugging_face: &'n str) -> &'n str {
        if self.is_gguf { gguf } else { hugging_face }
    }

    /// The name of a layer's tensor.
    fn tensor(&self, layer: usize, gguf: &str, hugging_face: &str) -> String {
        match self.is_gguf {
            true => format!("blk.{layer}.{gguf}"),
            false => format!("model.layers.{layer}.{hugging_face}"),
        }
    }

    fn embed(&mut self) -> Result<WeightId> {
        let tensor = self.named("token_embd.weight", "model.embed_tokens.weight");
        let rows = [(tensor, self.config.n_vocab)];
        let name = "embedding".to_owned();
        let table = self.weights.exact_matrix(name, self.config.n_embd, &rows)?;
        self.ops.push(Op::Embed { table, out: HIDDEN });
        Ok(table)
    }

    fn norm(&mut self, layer: usize, name: &str, tensors: [&str; 2]) -> Result<Norm> {
        let tensor = self.tensor(layer, tensors[0], tensors[1]);
        norm(&mut self.weights, self.config, format!("layers.{layer}.{name}"), &tensor)
    }

    /// A product with tensors stacked by rows, each given by its name without `.weight` or `.bias`.
    fn linear(
        &mut self,
        name: String,
        n_cols: usize,
        tensors: &[(&str, usize)],
        norm: Option<Norm>,
        [x, out]: [BufferId; 2],
        then: Then,
    ) -> Result<()> {
        let [weights, biases] = ["weight", "bias"].map(|suffix| suffixed(tensors, suffix));
        let weight = self.weights.exact_matrix(name.clone(), n_cols, &borrowed(&weights))?;
        let name = format!("{name}.bias");
        let bias = optional_bias(&mut self.weights, name, &borrowed(&biases))?;
        self.ops.push(Op::Linear(Linear { weight, bias, norm, x, out, then }));
        Ok(())
    }

    fn attention(&mut self, layer: usize) -> Result<()> {
        let heads = self.heads;
        let label = |name: &str| format!("layers.{layer}.attn.{name}");
        let norm = self.norm(layer, "attn.norm", ["attn_norm.weight", "input_layernorm.weight"])?;
        let q = self.tensor(layer, "attn_q", "self_attn.q_proj");
        let k = self.tensor(layer, "attn_k", "self_attn.k_proj");
        let v = self.tensor(layer, "attn_v", "self_attn.v_proj");
        self.linear(
            label("qkv"),
            self.config.n_embd,
            &[(&q, heads.q_width()), (&k, heads.kv_width()), (&v, heads.kv_width())],
            Some(norm),
            [HIDDEN, QKV],
            Then::Store,
        )?;
        let cache = CacheId(layer);
        let rope = &self.config.rope;
        self.ops.push(Op::Rope {
            qkv: QKV,
            cache,
            heads,
            pairing: rope.pairing,
            n_rot: rope.n_rot,
        });
        let sinks = self.tensor(layer, "attn_sinks.weight", "self_attn.sinks");
        let sinks = self.weights.vector(label("sinks"), &[(&sinks, heads.n_heads)])?;
        self.ops.push(Op::Attention {
            qkv: QKV,
            cache,
            out: ATTENDED,
            heads,
            scale: 1.0 / (heads.head_dim as f32).sqrt(),
            sinks: Some(sinks),
        });
        let out = self.tensor(layer, "attn_output", "self_attn.o_proj");
        let rows = [(out.as_str(), self.config.n_embd)];
        self.linear(label("out"), heads.q_width(), &rows, None, [ATTENDED, HIDDEN], Then::Add)
    }

    fn mixture(&mut self, layer: usize) -> Result<()> {
        let ExpertsConfig { n_experts, n_used, swiglu_limit } = self.experts;
        let (n_embd, n_ffn) = (self.config.n_embd, self.config.n_ffn);
        let names = ["post_attention_norm.weight", "post_attention_layernorm.weight"];
        let norm = self.norm(layer, "ffn.norm", names)?;
        let router = self.tensor(layer, "ffn_gate_inp", "mlp.router");
        self.linear(
            format!("layers.{layer}.ffn.router"),
            n_embd,
            &[(&router, n_experts)],
            Some(norm),
            [HIDDEN, ROUTER],
            Then::Store,
        )?;
        self.ops.push(Op::Route { logits: ROUTER, n_used, out: ROUTING });

        let name = format!("layers.{layer}.ffn.gate_up");
        let (weight, bias) = match self.is_gguf {
            true => self.gguf_experts(
                name,
                n_embd,
                &[
                    (format!("blk.{layer}.ffn_gate_exps"), n_ffn),
                    (format!("blk.{layer}.ffn_up_exps"), n_ffn),
                ],
            )?,
            // Gates and ups alternate by rows.
            false => self.mxfp4_experts(layer, name, "gate_up_proj", [2 * n_ffn, n_embd], 2)?,
        };
        let gate_up = Experts {
            weight,
            bias: Some(bias),
            norm: Some(norm),
            n_experts,
            n_used,
            x: HIDDEN,
            routing: ROUTING,
            out: GATED,
            then: ThenExperts::SwiGlu { limit: swiglu_limit },
        };
        self.ops.push(Op::Experts(gate_up));

        let name = format!("layers.{layer}.ffn.down");
        let (weight, bias) = match self.is_gguf {
            true => {
                let tensor = format!("blk.{layer}.ffn_down_exps");
                self.gguf_experts(name, n_ffn, &[(tensor, n_embd)])?
            }
            false => self.mxfp4_experts(layer, name, "down_proj", [n_embd, n_ffn], 1)?,
        };
        self.ops.push(Op::Experts(Experts {
            weight,
            bias: Some(bias),
            norm: None,
            x: GATED,
            out: HIDDEN,
            then: ThenExperts::Add,
            ..gate_up
        }));
        Ok(())
    }

    /// Matrices and biases of experts from tensors that each hold some rows of all experts.
    fn gguf_experts(
        &mut self,
        name: String,
        n_cols: usize,
        tensors: &[(String, usize)],
    ) -> Result<(WeightId, WeightId)> {
        let n_experts = self.experts.n_experts;
        let [matrices, biases] = ["weight", "bias"].map(|suffix| suffixed(tensors, suffix));
        let bias_name = format!("{name}.bias");
        Ok((
            self.weights.expert_matrix(name, n_experts, n_cols, &borrowed(&matrices))?,
            self.weights.expert_vector(bias_name, n_experts, &borrowed(&biases), 1)?,
        ))
    }

    /// Matrices and biases of experts from codes, scales and biases, in which `n_strands` kinds of rows
    /// alternate.
    fn mxfp4_experts(
        &mut self,
        layer: usize,
        name: String,
        projection: &str,
        [n_rows, n_cols]: [usize; 2],
        n_strands: usize,
    ) -> Result<(WeightId, WeightId)> {
        let n_experts = self.experts.n_experts;
        let [codes, scales, bias] = ["blocks", "scales", "bias"]
            .map(|what| format!("model.layers.{layer}.mlp.experts.{projection}_{what}"));
        let sizes = [n_experts, n_rows, n_cols];
        let bias_name = format!("{name}.bias");
        Ok((
            self.weights.mxfp4_expert_matrix(name, sizes, [&codes, &scales], n_strands)?,
            self.weights.expert_vector(bias_name, n_experts, &[(&bias, n_rows)], n_strands)?,
        ))
    }

    fn unembed(&mut self, table: WeightId) -> Result<Linear> {
        let gain = self.named("output_norm.weight", "model.norm.weight");
        let norm = norm(&mut self.weights, self.config, "head.norm".to_owned(), gain)?;
        let tensor = self.named("output.weight", "lm_head.weight");
        let weight = match self.weights.has(tensor) {
            true => {
                let rows = [(tensor, self.config.n_vocab)];
                self.weights.matrix("unembedding".to_owned(), self.config.n_embd, &rows)?
            }
            false => table,
        };
        let (x, out, then) = (HIDDEN, LOGITS, Then::Store);
        Ok(Linear { weight, bias: None, norm: Some(norm), x, out, then })
    }
}

/// The names of tensors' weights or biases, with their rows.
fn suffixed<T: Display>(tensors: &[(T, usize)], suffix: &str) -> Vec<(String, usize)> {
    tensors.iter().map(|(tensor, rows)| (format!("{tensor}.{suffix}"), *rows)).collect()
}

fn borrowed(parts: &[(String, usize)]) -> Vec<(&str, usize)> {
    parts.iter().map(|(tensor, rows)| (tensor.as_str(), *rows)).collect()
}
