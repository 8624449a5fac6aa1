//! Writes safetensors files, right or wrong.

/// A tensor as the header describes it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<u64>,
    pub offsets: [u64; 2],
}

/// A safetensors file to be written.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// What stands before the tensors in the header, with a comma after it.
    pub preamble: String,
    pub tensors: Vec<Tensor>,
    /// The size that the file gives for its header, if it is not the right one.
    pub header_bytes: Option<u64>,
    pub data_len: usize,
}

impl File {
    /// Adds a tensor; the data grows to its end if it is shorter.
    pub fn tensor(mut self, name: &str, dtype: &str, shape: &[u64], offsets: [u64; 2]) -> Self {
        self.data_len = self.data_len.max(offsets[1] as usize);
        self.tensors.push(Tensor {
            name: name.into(),
            dtype: dtype.into(),
            shape: shape.into(),
            offsets,
        });
        self
    }

    fn json(&self) -> String {
        let tensors: Vec<String> = self
            .tensors
            .iter()
            .map(|Tensor { name, dtype, shape, offsets }| {
                let description = format!(
                    r#"{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":{offsets:?}}}"#
                );
                format!(r#""{name}":{}"#, description.replace(' ', ""))
            })
            .collect();
        format!("{{{}{}}}", self.preamble, tensors.join(","))
    }

    pub fn header(&self) -> Vec<u8> {
        with_size(&self.json(), self.header_bytes)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        out.resize(out.len() + self.data_len, 0);
        out
    }
}

/// A header that is `json`, padded to 8 bytes, after its size or what is given for it.
pub fn with_size(json: &str, size: Option<u64>) -> Vec<u8> {
    let padding = json.len().next_multiple_of(8) - json.len();
    let padded = json.to_owned() + &" ".repeat(padding);
    let size = size.unwrap_or(padded.len() as u64);
    [&size.to_le_bytes()[..], padded.as_bytes()].concat()
}

/// A small file with every encoding that is read, and with its tensors out of order.
pub fn sample() -> File {
    let preamble = r#""__metadata__":{"format":"pt","note":"\u00e9"},"#.to_owned();
    File { preamble, ..File::default() }
        .tensor("experts_scales", "U8", &[2, 3, 1], [160, 166])
        .tensor("norm", "BF16", &[32], [0, 64])
        .tensor("experts_blocks", "U8", &[2, 3, 1, 16], [64, 160])
        .tensor("half", "F16", &[3, 1], [166, 172])
        .tensor("single", "F32", &[], [172, 176])
}
