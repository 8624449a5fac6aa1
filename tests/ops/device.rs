//! GPU contexts in every variant, and running recorded dispatches on them.

use std::cell::RefCell;

use pesi::{
    gpu::{
        Cache,
        context::{AdapterHints, Context, GpuBuffer, Guard},
        ops::Target,
        record::{Extent, Pipelines, Recorder},
        tuning::Tuning,
        weights::GpuWeight,
    },
    ops::CacheShape,
    weights::{Precision, Weight},
};

/// A device with a tuning.
pub struct Device {
    pub context: Context,
    pub tuning: Tuning,
    pub name: String,
    pipelines: RefCell<Pipelines>,
}

impl Device {
    pub fn new(context: Context, tuning: Tuning, name: String) -> Self {
        Self { context, tuning, name, pipelines: RefCell::default() }
    }

    pub fn target(&self) -> Target<'_> {
        Target { capabilities: &self.context.capabilities, tuning: &self.tuning }
    }

    pub fn storage(&self, contents: &[f32]) -> GpuBuffer {
        let buffer = self.context.storage("test", (contents.len() * 4) as u64).unwrap();
        self.context.queue.write_buffer(&buffer.buffer, 0, bytemuck::cast_slice(contents));
        buffer
    }

    pub fn words(&self, contents: &[u32]) -> GpuBuffer {
        let buffer = self.context.storage("test", (contents.len() * 4) as u64).unwrap();
        self.context.queue.write_buffer(&buffer.buffer, 0, bytemuck::cast_slice(contents));
        buffer
    }

    pub fn cache(&self, shape: CacheShape, context_length: usize, precision: Precision) -> Cache {
        let mut guard = Guard::new(&self.context);
        let made = Cache::new(&mut guard, shape, context_length, precision);
        pollster::block_on(made).unwrap()
    }

    /// The state of a chunk of `n_tokens` tokens from `position`.
    pub fn state(&self, position: u32, n_tokens: u32) -> GpuBuffer {
        self.words(&[position, n_tokens, 0, 0])
    }

    /// Runs what `record` records.
    pub fn run<'a>(&self, extent: Extent, record: impl FnOnce(&mut Recorder<'a>)) {
        let mut recorder = Recorder::default();
        record(&mut recorder);
        let recording = recorder.finish(&self.context, &mut self.pipelines.borrow_mut());
        let mut encoder = self.context.device.create_command_encoder(&Default::default());
        recording.encode(&mut encoder.begin_compute_pass(&Default::default()), extent);
        self.context.queue.submit([encoder.finish()]);
        // Parameters may go only when the work is done.
        self.context.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        self.context.check().unwrap();
    }

    pub fn read(&self, buffer: &GpuBuffer, n: usize) -> Vec<f32> {
        let bytes = pollster::block_on(self.context.read(buffer, (n * 4) as u64)).unwrap();
        bytemuck::pod_collect_to_vec(&bytes)
    }
}

/// Allocates buffers for a matrix or vector.
pub fn allocate(context: &Context, weight: &Weight) -> pesi::Result<GpuWeight> {
    pollster::block_on(GpuWeight::new(&mut Guard::new(context), weight))
}

/// As [`devices`], but of those that differ in several ways only some: for shaders that take long to compile.
pub fn some_devices() -> Vec<Device> {
    devices().into_iter().step_by(3).collect()
}

/// As [`devices`], for shaders that are the same with f16 and without.
pub fn devices_in_f32() -> impl Iterator<Item = Device> {
    devices().into_iter().filter(|device| !device.context.capabilities.f16)
}

/// The adapter as each kind of device that shaders are made for.
pub fn devices() -> Vec<Device> {
    let mut devices = Vec::new();
    for software in [false, true] {
        for no_f16 in [false, true] {
            for no_subgroups in [false, true] {
                let hints = AdapterHints {
                    software: Some(software),
                    no_f16,
                    no_subgroups,
                    ..Default::default()
                };
                let context = pollster::block_on(Context::request(&hints))
                    .expect("these tests need a GPU adapter; a software one will do");
                let tuning = Tuning::for_adapter(&context.capabilities);
                let name = format!(
                    "{} tuning, f16 {}, subgroup {:?}",
                    if software { "software" } else { "hardware" },
                    context.capabilities.f16,
                    context.capabilities.subgroup,
                );
                devices.push(Device::new(context, tuning, name));
            }
        }
    }
    devices
}
