//! Writes GGUF files, right or wrong.

/// The numbers that the format gives to types of values.
pub mod value_type {
    pub const U8: u32 = 0;
    pub const U32: u32 = 4;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const I64: u32 = 11;
}

/// The numbers that the format gives to encodings of tensors.
pub mod tensor_type {
    pub const F32: u32 = 0;
    pub const Q4_1: u32 = 3;
    pub const Q8_0: u32 = 8;
    pub const Q6_K: u32 = 14;
    pub const MXFP4: u32 = 39;
}

/// A metadata entry: any type number, any bytes.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Vec<u8>,
    pub type_number: u32,
    pub value: Vec<u8>,
}

/// A tensor as the header describes it, extents innermost first.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub extents: Vec<u64>,
    pub type_number: u32,
    pub offset: u64,
}

/// A GGUF file to be written. The counts are those of the lists unless overridden.
#[derive(Clone, Debug)]
pub struct File {
    pub magic: [u8; 4],
    pub version: u32,
    pub n_tensors: Option<u64>,
    pub n_entries: Option<u64>,
    pub entries: Vec<Entry>,
    pub tensors: Vec<Tensor>,
    pub alignment: usize,
    pub data_len: usize,
}

impl File {
    /// A file with no entries, no tensors and no data.
    pub fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_entries: None,
            entries: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data_len: 0,
        }
    }

    /// Pads the header to `alignment`, which an entry must name.
    pub fn aligned(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    pub fn entry(mut self, key: &str, type_number: u32, value: impl Into<Vec<u8>>) -> Self {
        self.entries.push(Entry { key: key.into(), type_number, value: value.into() });
        self
    }

    /// Adds a tensor; the data grows to `offset + n_bytes` if it is shorter.
    pub fn tensor(
        mut self,
        name: &str,
        extents: &[u64],
        type_number: u32,
        offset: u64,
        n_bytes: usize,
    ) -> Self {
        self.data_len = self.data_len.max(offset as usize + n_bytes);
        self.tensors.push(Tensor {
            name: name.into(),
            extents: extents.into(),
            type_number,
            offset,
        });
        self
    }

    pub fn header(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.magic);
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_entries.unwrap_or(self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            out.extend(string(&entry.key));
            out.extend(entry.type_number.to_le_bytes());
            out.extend(&entry.value);
        }
        for tensor in &self.tensors {
            out.extend(string(tensor.name.as_bytes()));
            out.extend((tensor.extents.len() as u32).to_le_bytes());
            out.extend(tensor.extents.iter().flat_map(|extent| extent.to_le_bytes()));
            out.extend(tensor.type_number.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        if !self.tensors.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment) + self.data_len, 0);
        }
        out
    }
}

/// A string as the format writes it.
pub fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

/// An array of `len` elements, which are `elements`.
pub fn array(element_type: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    [&element_type.to_le_bytes()[..], &len.to_le_bytes(), elements].concat()
}

/// An array of strings.
pub fn strings(texts: &[&str]) -> Vec<u8> {
    let elements: Vec<u8> = texts.iter().flat_map(|text| string(text.as_bytes())).collect();
    array(value_type::STRING, texts.len() as u64, &elements)
}

/// Arrays within arrays, `depth` levels of them; the innermost holds one u8.
pub fn nested(depth: u32) -> Vec<u8> {
    match depth {
        1 => array(value_type::U8, 1, &[7]),
        _ => array(value_type::ARRAY, 1, &nested(depth - 1)),
    }
}

/// A small file in which every part of the format occurs.
pub fn sample() -> File {
    use {tensor_type::*, value_type as value};
    File::new()
        .entry("general.architecture", value::STRING, string(b"llama"))
        .entry("general.alignment", value::U32, 64u32.to_le_bytes())
        .entry("llama.block_count", value::I64, 2i64.to_le_bytes())
        .entry("llama.rope.freq_base", value::F32, 1e5f32.to_le_bytes())
        .entry("tokenizer.ggml.add_bos_token", value::BOOL, [1])
        .entry("tokenizer.ggml.tokens", value::STRING, string("naïve".as_bytes()))
        .entry("tokenizer.ggml.merges", value::ARRAY, strings(&["a b", "", "ż ó"]))
        .entry("tokenizer.ggml.bytes", value::ARRAY, array(value::U8, 3, &[1, 2, 3]))
        .entry("nested", value::ARRAY, nested(3))
        .aligned(64)
        .tensor("norm", &[4], F32, 0, 16)
        .tensor("matrix", &[64, 3], Q4_1, 64, 120)
        .tensor("experts", &[32, 2, 2], MXFP4, 256, 68)
        .tensor("embedding", &[32, 5], Q8_0, 384, 170)
}
