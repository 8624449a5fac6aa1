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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::preset::Preset;

    fn shards_of(preset: Preset) -> Vec<Shard> {
        let model = preset.model(None).unwrap();
        split(model.tensors(), model.shard_bytes)
    }

    #[test]
    fn files_of_the_20b_model_are_named_and_sized_as_published() {
        let shards = shards_of(Preset::GptOss20b);
        let sizes: Vec<(&str, u64)> = shards
            .iter()
            .map(|shard| {
                let header = header(&shard.in_file_order());
                (shard.name.as_str(), header.len() as u64 + shard.n_bytes())
            })
            .collect();
        assert_eq!(
            sizes,
            [
                ("model-00000-of-00002.safetensors", 4_792_272_488),
                ("model-00001-of-00002.safetensors", 4_798_702_184),
                ("model-00002-of-00002.safetensors", 4_170_342_232),
            ]
        );
        let index = index(&shards);
        assert_eq!(index["metadata"]["total_size"], 13_761_264_768u64);
        let file = |name: &str| index["weight_map"][format!("model.layers.{name}")].clone();
        assert_eq!(file("18.self_attn.o_proj.weight"), sizes[0].0);
        assert_eq!(file("18.self_attn.q_proj.weight"), sizes[1].0);
        assert_eq!(file("6.mlp.experts.gate_up_proj_bias"), sizes[1].0);
        assert_eq!(file("6.mlp.experts.gate_up_proj_blocks"), sizes[2].0);
    }

    /// Which layers share a file differs from the published one.
    #[test]
    fn the_120b_model_has_the_published_tensors_and_as_many_files() {
        let shards = shards_of(Preset::GptOss120b);
        assert_eq!(shards.len(), 15);
        assert_eq!(shards.iter().map(|shard| shard.tensors.len()).sum::<usize>(), 687);
        assert_eq!(shards.iter().map(Shard::n_bytes).sum::<u64>(), 65_248_815_744);
    }
}
