//! The configuration in the `config.json` of a Hugging Face checkpoint.

use serde_json::{Map, Value};

use super::{
    Architecture, ExpertsConfig, Keys, ModelConfig, RopeConfig, RopePairing, RopeScaling,
    SlidingWindow, checked_layers, yarn_magnitude,
};
use crate::error::{Error, Result};

const SWIGLU_LIMIT: f64 = 7.0;

impl ModelConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// `unsupported` for a `model_type` that is not read here; `invalid_model` naming the key for
    /// numbers that are missing, zero or do not divide.
    pub fn from_hugging_face(config_json: &[u8]) -> Result<Self> {
        let config: Map<String, Value> = serde_json::from_slice(config_json).map_err(|error| {
            Error::invalid(format!("not a configuration: {error}")).with("file", "config.json")
        })?;
        let config = Reader(&config);
        let model_type = config.text("model_type")?;
        if model_type != "gpt_oss" {
            return Err(Error::unsupported("no such model architecture among safetensors here")
                .with("key", "model_type")
                .with("found", model_type));
        }
        match config.map("quantization_config")? {
            Some(quantization) if quantization.text("quant_method")? == "mxfp4" => {}
            Some(quantization) => {
                return Err(Error::unsupported("experts that are not in MXFP4")
                    .with("key", "quantization_config.quant_method")
                    .with("found", quantization.text("quant_method")?));
            }
            None => {
                return Err(Error::unsupported("experts that are not in MXFP4")
                    .with("key", "quantization_config"));
            }
        }
        let n_layers =
            checked_layers(config.count("num_hidden_layers")?, "num_hidden_layers".to_owned())?;
        let n_used = match config.0.contains_key("num_experts_per_tok") {
            true => config.count("num_experts_per_tok")?,
            false => config.count("experts_per_token")?,
        };
        let head_dim = config.count("head_dim")?;
        let parsed = Self {
            architecture: Architecture::GptOss,
            name: None,
            n_layers,
            n_embd: config.count("hidden_size")?,
            n_ffn: config.count("intermediate_size")?,
            n_heads: config.count("num_attention_heads")?,
            n_kv_heads: config.count("num_key_value_heads")?,
            head_dim,
            n_vocab: config.count("vocab_size")?,
            context_length: config.count("max_position_embeddings")?,
            rms_eps: config.number("rms_norm_eps")? as f32,
            rope: rope(&config, head_dim)?,
            sliding: Some(SlidingWindow {
                size: config.count("sliding_window")?,
                layers: config.sliding_layers(n_layers)?,
            }),
            experts: Some(ExpertsConfig {
                n_experts: config.count("num_local_experts")?,
                n_used,
                swiglu_limit: config.number_or("swiglu_limit", SWIGLU_LIMIT)? as f32,
            }),
        };
        parsed.checked(&Keys {
            prefix: String::new(),
            n_layers: "num_hidden_layers",
            n_embd: "hidden_size",
            n_ffn: "intermediate_size",
            n_heads: "num_attention_heads",
            n_kv_heads: "num_key_value_heads",
            head_dim: "head_dim",
            n_rot: "head_dim",
            n_vocab: "vocab_size",
            context_length: "max_position_embeddings",
            rms_eps: "rms_norm_eps",
            theta: "rope_theta",
            window: "sliding_window",
            layer_types: "layer_types",
            n_experts: "num_local_experts",
            n_used: "num_experts_per_tok",
            swiglu_limit: "swiglu_limit",
        })
    }
}

/// Rotary embeddings: at the top and in `rope_scaling`, or all in `rope_parameters`, as newer files
/// have it.
fn rope(config: &Reader<'_>, head_dim: usize) -> Result<RopeConfig> {
    let parameters = config.map("rope_parameters")?;
    let theta = match &parameters {
        Some(parameters) => parameters.number("rope_theta")?,
        None => config.number("rope_theta")?,
    };
    let scaling = match parameters {
        Some(parameters) => Some(parameters),
        None => config.map("rope_scaling")?,
    };
    let scaling = match &scaling {
        None => RopeScaling::None,
        Some(scaling) => match scaling.text("rope_type")? {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: scaling.positive("factor")? },
            "yarn" => {
                let factor = scaling.positive("factor")?;
                RopeScaling::Yarn {
                    factor,
                    original_context: scaling.positive("original_max_position_embeddings")?,
                    beta_fast: scaling.number_or("beta_fast", 32.0)?,
                    beta_slow: scaling.number_or("beta_slow", 1.0)?,
                    truncate: scaling.boolean_or("truncate", true)?,
                    magnitude: scaling.number_or("attention_factor", yarn_magnitude(factor))?,
                }
            }
            other => {
                return Err(Error::unsupported("rotary scaling of this kind")
                    .with("key", "rope_type")
                    .with("found", other));
            }
        },
    };
    Ok(RopeConfig { theta, n_rot: head_dim, pairing: RopePairing::Halves, scaling })
}

/// Typed access to an object; errors name the key.
struct Reader<'a>(&'a Map<String, Value>);

impl<'a> Reader<'a> {
    /// The value of `key`; absent where it is `null`.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn required<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.get(key).ok_or_else(|| {
            Error::invalid("a key is missing").with("key", key).with("expected", expected)
        })?;
        read(value).ok_or_else(|| {
            let found: String = value.to_string().chars().take(100).collect();
            Error::invalid("a key has another type")
                .with("key", key)
                .with("expected", expected)
                .with("found", found)
        })
    }

    fn count(&self, key: &str) -> Result<usize> {
        let count = self.required(key, "a count that fits 32 bits", |value| {
            value.as_u64().and_then(|number| u32::try_from(number).ok())
        })?;
        Ok(count as usize)
    }

    fn number(&self, key: &str) -> Result<f64> {
        self.required(key, "a finite number", |value| value.as_f64().filter(|x| x.is_finite()))
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.get(key).is_some() { self.positive(key) } else { Ok(default) }
    }

    fn positive(&self, key: &str) -> Result<f64> {
        self.required(key, "a positive number", |value| {
            value.as_f64().filter(|x| x.is_finite() && *x > 0.0)
        })
    }

    fn boolean_or(&self, key: &str, default: bool) -> Result<bool> {
        if self.get(key).is_none() {
            return Ok(default);
        }
        self.required(key, "a boolean", Value::as_bool)
    }

    fn text(&self, key: &str) -> Result<&'a str> {
        self.required(key, "a string", Value::as_str)
    }

    fn map(&self, key: &str) -> Result<Option<Self>> {
        if self.get(key).is_none() {
            return Ok(None);
        }
        self.required(key, "an object", Value::as_object).map(|map| Some(Self(map)))
    }

    /// Which layers slide; every other one from the first where the file does not say.
    fn sliding_layers(&self, n_layers: usize) -> Result<Vec<bool>> {
        const KEY: &str = "layer_types";
        if self.get(KEY).is_none() {
            return Ok((0..n_layers).map(|layer| layer % 2 == 0).collect());
        }
        let kinds = self.required(KEY, "an array", Value::as_array)?;
        kinds
            .iter()
            .map(|kind| match kind.as_str() {
                Some("sliding_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                _ => Err(Error::unsupported("attention of this kind")
                    .with("key", KEY)
                    .with("found", kind.to_string().chars().take(100).collect::<String>())),
            })
            .collect()
    }
}
