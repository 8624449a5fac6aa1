//! A tiny Llama as a GGUF file in memory, with any types, biases and rotary scaling.

use std::rc::Rc;

use half::{bf16, f16};
use pesi::{
    Error, ErrorKind, Result,
    checkpoint::DType,
    session::Entry,
    source::{Folder, LocalFuture, Source},
};

use super::writer::{File, array, string, strings, value_type};

pub const N_EMBD: usize = 256;
pub const N_FFN: usize = 512;
pub const N_HEADS: usize = 4;
pub const N_KV_HEADS: usize = 2;
pub const HEAD_DIM: usize = 64;
pub const N_LAYERS: usize = 2;
pub const N_VOCAB: usize = 260;

/// A file in memory.
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// The file alone in a folder, and how it is found there.
    pub fn in_folder(self) -> (InFolder, Entry) {
        (InFolder(Rc::new(self)), Entry::Gguf(NAME.to_owned()))
    }
}

const NAME: &str = "tiny.gguf";

/// A folder with one file.
pub struct InFolder(Rc<Bytes>);

impl Folder for InFolder {
    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, Result<Option<Rc<dyn Source>>>> {
        let file = (name == NAME).then(|| self.0.clone() as Rc<dyn Source>);
        Box::pin(async { Ok(file) })
    }
}

impl Source for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let start = usize::try_from(offset).unwrap();
            let bytes = start.checked_add(buffer.len()).and_then(|end| self.0.get(start..end));
            let end = || Error::new(ErrorKind::Storage, "read past the end").with("offset", offset);
            buffer.copy_from_slice(bytes.ok_or_else(end)?);
            Ok(())
        })
    }
}

/// What kind of model.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Types of q, k, v, o, gate, up, down, embedding, output.
    pub types: [DType; 9],
    pub biases: bool,
    pub tied: bool,
    /// Elements of a head that rotate.
    pub n_rot: usize,
    /// `rope.scaling.type`.
    pub scaling: Option<&'static str>,
    /// Whether the file has `rope_freqs.weight`.
    pub divisors: bool,
}

impl Kind {
    pub fn of(dtype: DType) -> Self {
        Self {
            types: [dtype; 9],
            biases: false,
            tied: true,
            n_rot: HEAD_DIM,
            scaling: None,
            divisors: false,
        }
    }
}

/// A small generator: the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    pub fn signed(&mut self) -> f32 {
        self.bits() as f32 / (1_u32 << 30) as f32 - 1.0
    }
}

/// Blocks of `dtype` that decode to numbers around `size`.
pub fn blocks(dtype: DType, n_elements: usize, size: f32, random: &mut Random) -> Vec<u8> {
    let n_blocks = n_elements / dtype.block_len();
    let mut bytes: Vec<u8> =
        (0..n_blocks * dtype.block_bytes()).map(|_| random.bits() as u8).collect();
    // Where a block has scales, and how much larger than a scale its elements get.
    let (places, range): (&[usize], f32) = match dtype {
        DType::Q4_0 | DType::Q5_0 => (&[0], 12.0),
        DType::Q4_1 | DType::Q5_1 => (&[0, 2], 24.0),
        DType::Q8_0 => (&[0], 128.0),
        DType::Q4K | DType::Q5K => (&[0, 2], 1000.0),
        DType::Q6K => (&[208], 4000.0),
        DType::F32 | DType::F16 | DType::Bf16 | DType::Mxfp4 | DType::U8 => (&[], 1.0),
    };
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for &place in places {
            let scale = f16::from_f32(random.signed() * size / range * 2.0);
            block[place..place + 2].copy_from_slice(&scale.to_le_bytes());
        }
        let x = random.signed() * size;
        match dtype {
            DType::F32 => block.copy_from_slice(&x.to_le_bytes()),
            DType::F16 => block.copy_from_slice(&f16::from_f32(x).to_le_bytes()),
            DType::Bf16 => block.copy_from_slice(&bf16::from_f32(x).to_le_bytes()),
            _ => {}
        }
    }
    bytes
}

/// The number that GGUF gives to a type.
fn type_number(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q5_0 => 6,
        DType::Q5_1 => 7,
        DType::Q8_0 => 8,
        DType::Q4K => 12,
        DType::Q5K => 13,
        DType::Q6K => 14,
        DType::Bf16 => 30,
        DType::Mxfp4 => 39,
        DType::U8 => unreachable!("GGUF has no tensors of bytes"),
    }
}

/// The characters that stand for bytes in byte-level vocabularies.
fn byte_alphabet() -> Vec<String> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256;
    (0..=255_u8)
        .map(|byte| {
            let code = if printable(byte) {
                u32::from(byte)
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).unwrap().to_string()
        })
        .collect()
}

/// Writes a model of `kind`.
pub fn write(kind: &Kind, random: &mut Random) -> Vec<u8> {
    use value_type as value;
    let u32_bytes = |number: usize| (number as u32).to_le_bytes();
    let mut tokens = byte_alphabet();
    tokens.push("<|im_end|>".to_owned());
    let types: Vec<u8> =
        (0..tokens.len()).flat_map(|i| if i == 256 { 3_u32 } else { 1 }.to_le_bytes()).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let mut file = File::new()
        .entry("general.architecture", value::STRING, string(b"llama"))
        .entry("llama.block_count", value::U32, u32_bytes(N_LAYERS))
        .entry("llama.context_length", value::U32, u32_bytes(1024))
        .entry("llama.embedding_length", value::U32, u32_bytes(N_EMBD))
        .entry("llama.feed_forward_length", value::U32, u32_bytes(N_FFN))
        .entry("llama.attention.head_count", value::U32, u32_bytes(N_HEADS))
        .entry("llama.attention.head_count_kv", value::U32, u32_bytes(N_KV_HEADS))
        .entry("llama.attention.layer_norm_rms_epsilon", value::F32, 1e-5_f32.to_le_bytes())
        .entry("llama.rope.dimension_count", value::U32, u32_bytes(kind.n_rot))
        .entry("llama.rope.freq_base", value::F32, 5e4_f32.to_le_bytes())
        .entry("tokenizer.ggml.model", value::STRING, string(b"gpt2"))
        .entry("tokenizer.ggml.pre", value::STRING, string(b"smollm"))
        .entry("tokenizer.ggml.tokens", value::ARRAY, strings(&tokens))
        .entry("tokenizer.ggml.token_type", value::ARRAY, array(5, tokens.len() as u64, &types))
        .entry("tokenizer.ggml.merges", value::ARRAY, strings(&[]))
        .entry("tokenizer.ggml.eos_token_id", value::U32, u32_bytes(256));
    if let Some(scaling) = kind.scaling {
        file = file
            .entry("llama.rope.scaling.type", value::STRING, string(scaling.as_bytes()))
            .entry("llama.rope.scaling.factor", value::F32, 4_f32.to_le_bytes())
            .entry("llama.rope.scaling.original_context_length", value::U32, u32_bytes(64));
    }

    let mut data: Vec<u8> = Vec::new();
    let mut add = |name: String, dtype: DType, extents: &[usize], contents: Vec<u8>| {
        let offset = data.len().next_multiple_of(32);
        data.resize(offset, 0);
        data.extend_from_slice(&contents);
        let extents: Vec<u64> = extents.iter().map(|&extent| extent as u64).collect();
        let taken = std::mem::replace(&mut file, File::new());
        file = taken.tensor(&name, &extents, type_number(dtype), offset as u64, contents.len());
    };
    let mut matrix =
        |name: String, dtype: DType, n_cols: usize, n_rows: usize, random: &mut Random| {
            let contents = blocks(dtype, n_cols * n_rows, 0.08, random);
            add(name, dtype, &[n_cols, n_rows], contents);
        };
    let [q, k, v, o, gate, up, down, embedding, output] = kind.types;
    let (q_width, kv_width) = (N_HEADS * HEAD_DIM, N_KV_HEADS * HEAD_DIM);
    matrix("token_embd.weight".to_owned(), embedding, N_EMBD, N_VOCAB, random);
    if !kind.tied {
        matrix("output.weight".to_owned(), output, N_EMBD, N_VOCAB, random);
    }
    for layer in 0..N_LAYERS {
        for (name, dtype, n_cols, n_rows) in [
            ("attn_q", q, N_EMBD, q_width),
            ("attn_k", k, N_EMBD, kv_width),
            ("attn_v", v, N_EMBD, kv_width),
            ("attn_output", o, q_width, N_EMBD),
            ("ffn_gate", gate, N_EMBD, N_FFN),
            ("ffn_up", up, N_EMBD, N_FFN),
            ("ffn_down", down, N_FFN, N_EMBD),
        ] {
            matrix(format!("blk.{layer}.{name}.weight"), dtype, n_cols, n_rows, random);
        }
    }
    let mut vector = |name: String, n: usize, random: &mut Random| {
        add(name, DType::F32, &[n], blocks(DType::F32, n, 1.0, random));
    };
    vector("output_norm.weight".to_owned(), N_EMBD, random);
    for layer in 0..N_LAYERS {
        vector(format!("blk.{layer}.attn_norm.weight"), N_EMBD, random);
        vector(format!("blk.{layer}.ffn_norm.weight"), N_EMBD, random);
        if kind.biases {
            for (name, n) in [
                ("attn_q", q_width),
                ("attn_k", kv_width),
                ("attn_v", kv_width),
                ("attn_output", N_EMBD),
                ("ffn_gate", N_FFN),
                ("ffn_up", N_FFN),
                ("ffn_down", N_EMBD),
            ] {
                vector(format!("blk.{layer}.{name}.bias"), n, random);
            }
        }
    }
    if kind.divisors {
        let contents = (0..kind.n_rot / 2).flat_map(|i| (1.0 + i as f32 / 8.0).to_le_bytes());
        add("rope_freqs.weight".to_owned(), DType::F32, &[kind.n_rot / 2], contents.collect());
    }
    let mut bytes = file.header();
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data);
    bytes
}
