//! Dense weights in 8 bits against those in 16, in a model that was trained.

use std::{
    fs::{self, File},
    io::{BufWriter, Result, Write},
    path::Path,
};

use half::bf16;
use pesi::{
    checkpoint::{Gguf, Parsed, dequantize},
    engine::DeviceKind,
    session::{Description, Entry},
    source::LocalFolder,
    weights::Precision,
};
use safetensors::SafeTensors;

use super::{
    divergence::mean_divergence,
    golden::{GOLDEN, Golden},
    model::{FILE, TestHost, models, put},
    writer,
};

/// Mean Kullback-Leibler divergence of next-token distributions, in nats.
const MAX_DIVERGENCE: f64 = 0.01;

const CONTEXT: usize = 128;

/// The number that GGUF gives to the upper half of single precision.
const BF16: u32 = 30;

/// Writes the GGUF file `bytes` to `path` with its matrices in 16 bits.
fn write_dense(bytes: &[u8], path: &Path) -> Result<()> {
    let Parsed::Complete(gguf) = Gguf::parse(bytes, bytes.len() as u64).unwrap() else {
        panic!("the whole file is given")
    };
    let (mut file, _) = writer::File::read(bytes);
    let mut end = 0_u64;
    for tensor in &mut file.tensors {
        let n_elements: u64 = tensor.extents.iter().product();
        let is_matrix = tensor.extents.len() > 1;
        tensor.type_number = if is_matrix { BF16 } else { writer::tensor_type::F32 };
        tensor.offset = end;
        let n_bytes = n_elements * if is_matrix { 2 } else { 4 };
        end = (end + n_bytes).next_multiple_of(file.alignment as u64);
    }
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&file.with_data(&[]))?;
    for tensor in &file.tensors {
        let source = gguf.tensor(&tensor.name).unwrap();
        let mut elements = vec![0.0; source.n_elements() as usize];
        let end = (source.offset + source.n_bytes) as usize;
        dequantize(source.dtype, &bytes[source.offset as usize..end], &mut elements);
        let mut data: Vec<u8> = if tensor.type_number == BF16 {
            elements.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect()
        } else {
            elements.iter().flat_map(|x| x.to_le_bytes()).collect()
        };
        data.resize(data.len().next_multiple_of(file.alignment), 0);
        out.write_all(&data)?;
    }
    out.flush()
}

#[test]
fn compact_weights_keep_the_distributions() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = "SmolLM2-135M-Instruct.BF16.gguf";
    let quantized = fs::read(models().join(FILE)).expect("`npm test` fetches the model");
    write_dense(&quantized, &folder.join(name)).unwrap();
    drop(quantized);

    let tensors = SafeTensors::deserialize(GOLDEN).unwrap();
    let prompts = ["english", "code", "italian"];
    let mut n_vocab = 0;
    let [exact, compact] = [Precision::Exact, Precision::Compact].map(|precision| {
        let mut session = pollster::block_on(async {
            let folder = LocalFolder(folder.to_owned());
            let opened = Description::open(&folder, &Entry::Gguf(name.to_owned())).await.unwrap();
            let plan = opened.description.plan(precision).unwrap();
            put(opened, &plan, &DeviceKind::Cpu, CONTEXT).await
        });
        n_vocab = session.config().n_vocab;
        prompts.map(|prompt| {
            let tokens: Vec<u32> = Golden { tensors: &tensors, prompt }.words("ids");
            let host = TestHost::new();
            pollster::block_on(session.logits(&tokens, &host, &|| false)).unwrap()
        })
    });
    fs::remove_file(folder.join(name)).unwrap();
    for ((prompt, exact), compact) in prompts.iter().zip(&exact).zip(&compact) {
        let mean = mean_divergence(exact, compact, n_vocab);
        println!("{prompt}: mean divergence {mean:.2e} over {} positions", exact.len() / n_vocab);
        assert!(mean > 0.0 && mean <= MAX_DIVERGENCE, "{prompt}: {mean:.2e}");
    }
}
