//! Small models of both families on both kinds of devices, and requests to them.

use pesi::{
    checkpoint::DType,
    engine::DeviceKind,
    gpu::context::AdapterHints,
    sampler::SamplingParams,
    session::{Description, Opened, Request, Session},
    weights::Precision,
};

use super::{
    gpt_oss,
    tiny::{Bytes, Kind, Random, write},
};

/// Positions to make room for.
pub const CONTEXT: usize = 256;

/// Tokens that all of these models have.
const N_TOKENS: u32 = 256;

/// What makes a session on a device.
type Open = fn(&DeviceKind) -> Session;

/// Each model on each kind of device, by name.
pub fn all() -> Vec<(String, Box<dyn Fn() -> Session>)> {
    let opens: [(&str, Open); 2] = [("gpt-oss", open_gpt_oss), ("Llama", open_llama)];
    let devices = [DeviceKind::Cpu, DeviceKind::Gpu(AdapterHints::default())];
    opens
        .into_iter()
        .flat_map(|(name, open)| {
            devices.clone().map(|device| {
                let name = format!("{name} on {device:?}");
                (name, Box::new(move || open(&device)) as Box<dyn Fn() -> Session>)
            })
        })
        .collect()
}

fn open_gpt_oss(device: &DeviceKind) -> Session {
    gpt_oss::session(&gpt_oss::folder("a1-basic"), device, Precision::Exact, CONTEXT)
}

fn open_llama(device: &DeviceKind) -> Session {
    let (folder, entry) = Bytes(write(&Kind::of(DType::Q8_0), &mut Random(1))).in_folder();
    pollster::block_on(async {
        let opened: Opened = Description::open(&folder, &entry).await.unwrap();
        let (engine, description) = gpt_oss::put(opened, device, Precision::Compact, CONTEXT).await;
        Session::new(engine, description, CONTEXT)
    })
}

/// A prompt of `n_tokens` tokens, another for each seed.
pub fn prompt(n_tokens: usize, seed: u64) -> Vec<u32> {
    let mut random = Random(seed);
    (0..n_tokens).map(|_| random.bits() % N_TOKENS).collect()
}

/// A request for `max_tokens` tokens, whatever they are.
pub fn request(tokens: Vec<u32>, max_tokens: usize) -> Request {
    Request {
        tokens,
        max_tokens: Some(max_tokens),
        sampling: SamplingParams { temperature: 1.0, seed: 1, ..Default::default() },
        ignore_eos: true,
        reuse_prefix: true,
        ..Default::default()
    }
}
