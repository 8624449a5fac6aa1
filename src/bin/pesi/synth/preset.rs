//! The models that can be made up: their numbers, their tensors in the order of the published
//! files, and their configuration files.
//!
//! Shapes are those of gpt-oss. Contents are random and of such sizes that activations keep their
//! magnitude: each normed input has unit variance, matrices keep it, and a layer adds less to the
//! residual stream than is there.

use clap::ValueEnum;
use pesi::{Error, Result, checkpoint::DType};
use serde_json::{Value, json};

use super::fill::Fill;

/// Standard deviation of biases and sinks, and of norms around 1.
const SMALL: f32 = 0.05;

/// Standard deviation of what attention adds to the residual stream, beside its input of 1.
const ATTENTION_GAIN: f32 = 0.5;

/// Standard deviation of the logits.
const LOGITS_GAIN: f32 = 3.0;

/// Which model to write.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    #[value(name = "gpt-oss-20b")]
    GptOss20b,
    #[value(name = "gpt-oss-120b")]
    GptOss120b,
    Tiny,
}

/// The numbers of a model.
pub struct Model {
    pub n_layers: usize,
    n_experts: usize,
    n_experts_used: usize,
    /// Width of the residual stream and of the experts.
    n_embd: usize,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    pub n_vocab: usize,
    window: usize,
    original_context: usize,
    context: usize,
    /// The id of the first special token; the others follow.
    first_special: usize,
    /// The most bytes of tensors in one file.
    pub shard_bytes: u64,
}

/// A tensor to be written.
pub struct Tensor {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub fill: Fill,
}

impl Tensor {
    pub fn n_bytes(&self) -> u64 {
        let n_elements: usize = self.shape.iter().product();
        (n_elements * self.dtype.block_bytes()) as u64
    }
}

impl Preset {
    /// The preset's numbers, with another number of layers if one is given.
    pub fn model(self, n_layers: Option<usize>) -> Result<Model> {
        if n_layers == Some(0) {
            return Err(Error::argument("a model has at least one layer").with("found", 0usize));
        }
        let published = |published, n_experts| Model {
            n_layers: n_layers.unwrap_or(published),
            n_experts,
            n_experts_used: 4,
            n_embd: 2880,
            n_heads: 64,
            n_kv_heads: 8,
            head_dim: 64,
            n_vocab: 201_088,
            window: 128,
            original_context: 4096,
            context: 131_072,
            first_special: 199_998,
            shard_bytes: 4_800_000_000,
        };
        Ok(match self {
            Self::GptOss20b => published(24, 32),
            Self::GptOss120b => published(36, 128),
            Self::Tiny => Model {
                n_layers: n_layers.unwrap_or(4),
                n_experts: 8,
                n_experts_used: 2,
                n_embd: 64,
                n_heads: 4,
                n_kv_heads: 2,
                head_dim: 64,
                n_vocab: 320,
                window: 16,
                original_context: 256,
                context: 8192,
                first_special: 290,
                shard_bytes: 250_000,
            },
        })
    }
}

impl Model {
    /// Every tensor, in the order in which the published files share them out: layers sorted as
    /// text, then what is no layer's.
    pub fn tensors(&self) -> Vec<Tensor> {
        let mut layers: Vec<String> = (0..self.n_layers).map(|layer| layer.to_string()).collect();
        layers.sort_unstable();
        let mut tensors: Vec<Tensor> =
            layers.iter().flat_map(|layer| self.layer(&format!("model.layers.{layer}"))).collect();
        let table = |name: &str, deviation| {
            bf16(name.to_owned(), &[self.n_vocab, self.n_embd], 0.0, deviation)
        };
        tensors.push(table("model.embed_tokens.weight", 1.0));
        tensors.push(bf16("model.norm.weight".to_owned(), &[self.n_embd], 1.0, SMALL));
        tensors.push(table("lm_head.weight", LOGITS_GAIN / (self.n_embd as f32).sqrt()));
        tensors
    }

    fn layer(&self, prefix: &str) -> Vec<Tensor> {
        let (n_embd, n_experts) = (self.n_embd, self.n_experts);
        let (q_width, kv_width) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let vector = |name: &str, shape: &[usize], mean| {
            bf16(format!("{prefix}.{name}"), shape, mean, SMALL)
        };
        let matrix = |name: &str, n_rows: usize, n_cols: usize, gain: f32| {
            bf16(format!("{prefix}.{name}"), &[n_rows, n_cols], 0.0, gain / (n_cols as f32).sqrt())
        };
        let codes = |name: &str, n_rows| Tensor {
            name: format!("{prefix}.mlp.experts.{name}_blocks"),
            dtype: DType::U8,
            shape: vec![n_experts, n_rows, n_embd / 32, 16],
            fill: Fill::Codes,
        };
        let scales = |name: &str, n_rows| Tensor {
            name: format!("{prefix}.mlp.experts.{name}_scales"),
            dtype: DType::U8,
            shape: vec![n_experts, n_rows, n_embd / 32],
            fill: Fill::scales_for(1.0 / (n_embd as f32).sqrt()),
        };
        vec![
            vector("input_layernorm.weight", &[n_embd], 1.0),
            vector("self_attn.o_proj.bias", &[n_embd], 0.0),
            matrix("self_attn.o_proj.weight", n_embd, q_width, ATTENTION_GAIN),
            vector("self_attn.q_proj.bias", &[q_width], 0.0),
            vector("self_attn.k_proj.bias", &[kv_width], 0.0),
            vector("self_attn.v_proj.bias", &[kv_width], 0.0),
            matrix("self_attn.q_proj.weight", q_width, n_embd, 1.0),
            matrix("self_attn.k_proj.weight", kv_width, n_embd, 1.0),
            matrix("self_attn.v_proj.weight", kv_width, n_embd, 1.0),
            vector("self_attn.sinks", &[self.n_heads], 0.0),
            vector("mlp.router.bias", &[n_experts], 0.0),
            matrix("mlp.router.weight", n_experts, n_embd, 1.0),
            vector("mlp.experts.gate_up_proj_bias", &[n_experts, 2 * n_embd], 0.0),
            codes("gate_up_proj", 2 * n_embd),
            scales("gate_up_proj", 2 * n_embd),
            vector("mlp.experts.down_proj_bias", &[n_experts, n_embd], 0.0),
            codes("down_proj", n_embd),
            scales("down_proj", n_embd),
            vector("post_attention_layernorm.weight", &[n_embd], 1.0),
        ]
    }

    /// `config.json`, with the keys of the published ones.
    pub fn config(&self) -> Value {
        let layer_type = |layer| ["sliding_attention", "full_attention"][layer % 2];
        json!({
            "architectures": ["GptOssForCausalLM"],
            "attention_bias": true,
            "attention_dropout": 0.0,
            "eos_token_id": self.first_special + 4,
            "experts_per_token": self.n_experts_used,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.n_embd,
            "initial_context_length": self.original_context,
            "initializer_range": 0.02,
            "intermediate_size": self.n_embd,
            "layer_types": (0..self.n_layers).map(layer_type).collect::<Vec<_>>(),
            "max_position_embeddings": self.context,
            "model_type": "gpt_oss",
            "num_attention_heads": self.n_heads,
            "num_experts_per_tok": self.n_experts_used,
            "num_hidden_layers": self.n_layers,
            "num_key_value_heads": self.n_kv_heads,
            "num_local_experts": self.n_experts,
            "output_router_logits": false,
            "pad_token_id": self.first_special + 1,
            "quantization_config": {
                "modules_to_not_convert": [
                    "model.layers.*.self_attn",
                    "model.layers.*.mlp.router",
                    "model.embed_tokens",
                    "lm_head",
                ],
                "quant_method": "mxfp4",
            },
            "rms_norm_eps": 1e-5,
            "rope_scaling": {
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "factor": 32.0,
                "original_max_position_embeddings": self.original_context,
                "rope_type": "yarn",
                "truncate": false,
            },
            "rope_theta": 150_000,
            "router_aux_loss_coef": 0.9,
            "sliding_window": self.window,
            "swiglu_limit": 7.0,
            "tie_word_embeddings": false,
            "transformers_version": "4.55.0.dev0",
            "use_cache": true,
            "vocab_size": self.n_vocab,
        })
    }

    /// `generation_config.json`: an answer ends with `<|return|>`, `<|endoftext|>` or `<|call|>`.
    pub fn generation_config(&self) -> Value {
        let special = |place| self.first_special + place;
        json!({
            "bos_token_id": special(0),
            "do_sample": true,
            "eos_token_id": [special(4), special(1), special(14)],
            "pad_token_id": special(1),
            "transformers_version": "4.55.0.dev0",
        })
    }
}

fn bf16(name: String, shape: &[usize], mean: f32, deviation: f32) -> Tensor {
    let fill = Fill::Normal { mean, deviation };
    Tensor { name, dtype: DType::Bf16, shape: shape.to_vec(), fill }
}
