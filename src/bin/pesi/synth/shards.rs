//! Tensors → safetensors files and their index, streamed to disk through one small buffer.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use pesi::{Result, checkpoint::DType};
use serde_json::{Map, Value, json};

use super::{failed, fill::Filler, preset::Tensor};

/// Bytes made and written at a time.
const CHUNK_BYTES: usize = 4 << 20;

/// One file of a model.
pub struct Shard {
    pub name: String,
    /// In the order of the model.
    tensors: Vec<Tensor>,
}

/// Shares tensors out to files of at most `shard_bytes`, in order. Files are numbered from zero and
/// their names end in the number of the last, like those that OpenAI published.
pub fn split(tensors: Vec<Tensor>, shard_bytes: u64) -> Vec<Shard> {
    let mut groups: Vec<Vec<Tensor>> = Vec::new();
    let mut left = 0;
    for tensor in tensors {
        let n_bytes = tensor.n_bytes();
        match groups.last_mut() {
            Some(group) if n_bytes <= left => group.push(tensor),
            _ => {
                groups.push(vec![tensor]);
                left = shard_bytes.max(n_bytes);
            }
        }
        left -= n_bytes;
    }
    let last = groups.len().saturating_sub(1);
    let name = |index| format!("model-{index:05}-of-{last:05}.safetensors");
    groups
        .into_iter()
        .enumerate()
        .map(|(index, tensors)| Shard { name: name(index), tensors })
        .collect()
}

/// `model.safetensors.index.json`.
pub fn index(shards: &[Shard]) -> Value {
    let weight_map: Map<String, Value> = shards
        .iter()
        .flat_map(|shard| shard.tensors.iter().map(|tensor| (tensor, &shard.name)))
        .map(|(tensor, file)| (tensor.name.clone(), json!(file)))
        .collect();
    let total_size: u64 = shards.iter().map(Shard::n_bytes).sum();
    json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map })
}

impl Shard {
    /// Bytes of tensors.
    pub fn n_bytes(&self) -> u64 {
        self.tensors.iter().map(Tensor::n_bytes).sum()
    }

    /// Writes the file into `folder`. `written` is told of bytes as they are written.
    pub fn write(&self, folder: &Path, seed: u64, written: &mut dyn FnMut(usize)) -> Result<()> {
        let path = folder.join(&self.name);
        self.stream(&path, seed, written).map_err(|error| failed("cannot write", &path, &error))
    }

    fn stream(&self, path: &Path, seed: u64, written: &mut dyn FnMut(usize)) -> io::Result<()> {
        let tensors = self.in_file_order();
        let mut file = File::create(path)?;
        file.write_all(&header(&tensors))?;
        let mut chunk = vec![0; CHUNK_BYTES];
        for tensor in tensors {
            let mut filler = Filler::new(tensor.fill, seed, &tensor.name);
            let mut left = tensor.n_bytes();
            while left > 0 {
                let n_bytes = left.min(CHUNK_BYTES as u64) as usize;
                filler.fill(&mut chunk[..n_bytes]);
                file.write_all(&chunk[..n_bytes])?;
                written(n_bytes);
                left -= n_bytes as u64;
            }
        }
        Ok(())
    }

    /// Wider encodings first, then by name, as the published writer does.
    fn in_file_order(&self) -> Vec<&Tensor> {
        let mut tensors: Vec<&Tensor> = self.tensors.iter().collect();
        tensors.sort_by_key(|tensor| (tensor.dtype == DType::U8, &tensor.name));
        tensors
    }
}

/// The header of a file with these tensors one after another, padded to 8 bytes.
fn header(tensors: &[&Tensor]) -> Vec<u8> {
    let mut entries = Map::new();
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.n_bytes();
        let entry = json!({
            "dtype": tensor.dtype.name(),
            "shape": tensor.shape,
            "data_offsets": [start, end],
        });
        entries.insert(tensor.name.clone(), entry);
    }
    let mut text = Value::Object(entries).to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}
