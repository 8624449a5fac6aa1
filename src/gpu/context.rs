//! The adapter and the device: what they can do, what became of them, what they hold.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, Mutex},
};

use super::{
    record::{Binding, Extent, Pipelines, Recorder},
    shader::{Dialect, Variant},
};
use crate::{
    error::{Error, ErrorKind, Result},
    source::LocalFuture,
};

/// What an adapter can do, as far as shaders and sizes depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Name for people.
    pub name: String,
    /// Whether the adapter computes on the CPU.
    pub software: bool,
    /// Whether shaders may use f16.
    pub f16: bool,
    /// The smallest subgroup that shaders may meet, where they may use subgroups.
    pub subgroup: Option<u32>,
    /// Whether shaders read subnormal numbers in f16 as what they are.
    pub half_subnormals: bool,
    /// Most bytes that the threads of a workgroup share.
    pub max_workgroup_bytes: u32,
    /// Most bytes that a page of weights, and keys or values, may have for a shader to see them.
    pub max_binding: u64,
}

/// What the caller knows of an adapter better than wgpu does: in a browser, subgroups and whether it
/// is a software adapter.
#[derive(Clone, Debug, Default)]
pub struct AdapterHints {
    /// The adapter computes on the CPU.
    pub software: Option<bool>,
    /// The smallest subgroup, where the device was requested with subgroups.
    pub subgroup: Option<u32>,
    /// Name for people.
    pub name: Option<String>,
    /// Do not use f16 in shaders.
    pub no_f16: bool,
    /// Do not use subgroups.
    pub no_subgroups: bool,
    /// Pretend that pages of weights, keys and values are limited to this many bytes.
    pub max_binding: Option<u64>,
}

/// A device, its queue, and its state.
#[derive(Clone)]
pub struct Context {
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Whether loops of shaders get counters that would end them. These keep drivers from unrolling, which
    /// takes a GPU longer to run, and a CPU less time to compile.
    pub bounds_loops: bool,
    /// Whether shaders must check their indices themselves: Vulkan's drivers keep what is read and written inside of
    /// buffers (`robustBufferAccess`, which wgpu asks for). Browsers add checks to every shader.
    pub checks_indices: bool,
    /// Most bytes that a shader can see of one buffer.
    max_binding: u64,
    allocated: Rc<Cell<u64>>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Context {
    /// Requests an adapter and a device with all the limits that the adapter has.
    ///
    /// # Errors
    /// `no_adapter` when there is none or it gives no device.
    pub async fn request(hints: &AdapterHints) -> Result<Self> {
        let adapter = instance()
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(|error| {
                Error::new(ErrorKind::NoAdapter, format!("no GPU adapter: {error}"))
            })?;
        let info = adapter.get_info();
        let limits = adapter.limits();
        let mut wanted = wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
        // Only the command line measures kernels.
        if cfg!(not(target_arch = "wasm32")) {
            wanted |= wgpu::Features::TIMESTAMP_QUERY;
        }
        let features = adapter.features() & wanted;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("pesi"),
                required_features: features,
                required_limits: limits.clone(),
                ..Default::default()
            })
            .await
            .map_err(|error| {
                Error::new(ErrorKind::NoAdapter, format!("the adapter gives no device: {error}"))
            })?;

        let failure = Arc::new(Mutex::new(None));
        let on_error = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            note(&on_error, from_wgpu(&error));
        }));
        let on_loss = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                let message = format!("the GPU device was lost: {message}");
                note(&on_loss, Error::new(ErrorKind::DeviceLost, message));
            }
        });

        let native_subgroup = features
            .contains(wgpu::Features::SUBGROUP)
            .then_some(info.subgroup_min_size)
            .filter(|size| size.is_power_of_two());
        let max_binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let mut context = Self {
            device,
            queue,
            capabilities: Capabilities {
                name: hints.name.clone().unwrap_or(info.name),
                software: hints.software.unwrap_or(info.device_type == wgpu::DeviceType::Cpu),
                f16: features.contains(wgpu::Features::SHADER_F16) && !hints.no_f16,
                subgroup: hints.subgroup.or(native_subgroup).filter(|_| !hints.no_subgroups),
                half_subnormals: false,
                max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
                max_binding: hints.max_binding.unwrap_or(u64::MAX).min(max_binding),
            },
            bounds_loops: info.device_type == wgpu::DeviceType::Cpu,
            checks_indices: info.backend != wgpu::Backend::Vulkan,
            max_binding,
            allocated: Rc::default(),
            failure,
        };
        context.capabilities.half_subnormals = context.reads_half_subnormals().await?;
        Ok(context)
    }

    /// Asks the device for two subnormal numbers, which it may take for zeros.
    async fn reads_half_subnormals(&self) -> Result<bool> {
        // The smallest one, and the largest one, which is negative.
        const NUMBERS: [u16; 2] = [0x0001, 0x83ff];
        let word = u32::from(NUMBERS[0]) | u32::from(NUMBERS[1]) << 16;
        let [halves, numbers] = [4, 8].map(|bytes| self.storage("subnormal numbers", bytes));
        let (halves, numbers) = (halves?, numbers?);
        self.queue.write_buffer(&halves.buffer, 0, &word.to_le_bytes());
        let mut recorder = Recorder::default();
        recorder.dispatch(
            "subnormal numbers",
            Variant::new("subnormals"),
            vec![(0, Binding::Read((&halves).into())), (1, Binding::Write((&numbers).into()))],
            Box::new(|_| Some([1, 1, 1])),
        );
        let recording = recorder.finish(self, &mut Pipelines::default());
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let extent = Extent { n_tokens: 1, n_keys: 0 };
        recording.encode(&mut encoder.begin_compute_pass(&Default::default()), extent);
        self.queue.submit([encoder.finish()]);
        let found: Vec<f32> = bytemuck::pod_collect_to_vec(&self.read(&numbers, 8).await?);
        Ok(found == NUMBERS.map(|bits| half::f16::from_bits(bits).to_f32()))
    }

    /// What shaders for the device are written in. On software adapters parameters stand in storage buffers:
    /// lavapipe compiles a kernel anew, at each dispatch, for the values of uniforms that its conditions read.
    pub fn dialect(&self) -> Dialect {
        Dialect {
            for_browser: cfg!(target_arch = "wasm32"),
            stores_parameters: self.capabilities.software,
        }
    }

    /// Where parameters may start, in bytes.
    pub fn parameter_alignment(&self) -> usize {
        let limits = self.device.limits();
        let alignment = match self.dialect().stores_parameters {
            true => limits.min_storage_buffer_offset_alignment,
            false => limits.min_uniform_buffer_offset_alignment,
        };
        alignment as usize
    }

    /// Bytes in buffers that have not been dropped.
    pub fn allocated(&self) -> u64 {
        self.allocated.get()
    }

    /// What the device has reported since the last call.
    ///
    /// # Errors
    /// `device_lost`, `out_of_memory` with the bytes held and refused, or `gpu`.
    pub fn check(&self) -> Result<()> {
        let mut failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*failure {
            // A lost device stays lost.
            Some(error) if error.kind() == ErrorKind::DeviceLost => Err(error.clone()),
            Some(error) if error.kind() == ErrorKind::OutOfMemory => {
                let error = error.clone().with("needed", self.allocated());
                *failure = None;
                Err(error)
            }
            Some(_) => failure.take().map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    /// Runs `work`, which creates things on the device, and reports what it met.
    ///
    /// # Errors
    /// Those of `work` and of [`Guard::finish`].
    pub async fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let guard = Guard::new(self);
        let made = work()?;
        guard.finish().await?;
        Ok(made)
    }

    /// Creates a buffer that is counted until it is dropped.
    pub fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> GpuBuffer {
        let size = buffer_bytes(bytes);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        });
        self.allocated.set(self.allocated.get() + size);
        GpuBuffer { buffer, allocated: self.allocated.clone() }
    }

    /// Creates a buffer for shaders, which the host can write and read back.
    ///
    /// # Errors
    /// `out_of_memory` when it is larger than a binding may be.
    pub fn storage(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        use wgpu::BufferUsages as Usage;
        check_binding(label, bytes, self.max_binding)?;
        Ok(self.buffer(label, bytes, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC))
    }

    /// Copies `bytes` bytes from the start of `source` to the host, after all work submitted so far.
    ///
    /// # Errors
    /// `device_lost`, or what the device reported.
    pub async fn read(&self, source: &GpuBuffer, bytes: u64) -> Result<Vec<u8>> {
        use wgpu::BufferUsages as Usage;
        let staging = self.buffer("readback", bytes, Usage::MAP_READ | Usage::COPY_DST);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&source.buffer, 0, &staging.buffer, 0, bytes);
        self.queue.submit([encoder.finish()]);
        self.map(&staging, bytes).await
    }

    /// Waits for a `MAP_READ` buffer and copies its first `bytes` bytes.
    ///
    /// # Errors
    /// `device_lost`, or what the device reported.
    pub async fn map(&self, staging: &GpuBuffer, bytes: u64) -> Result<Vec<u8>> {
        let (sender, receiver) = futures_channel::oneshot::channel();
        let slice = staging.buffer.slice(..bytes);
        slice.map_async(wgpu::MapMode::Read, move |result| {
            // The receiver is gone only when the caller no longer waits.
            let _ = sender.send(result);
        });
        #[cfg(not(target_arch = "wasm32"))]
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| {
            Error::new(ErrorKind::DeviceLost, format!("the GPU does not answer: {error}"))
        })?;
        let mapped = receiver.await;
        self.check()?;
        if !matches!(mapped, Ok(Ok(()))) {
            return Err(Error::new(ErrorKind::DeviceLost, "the GPU gave no result"));
        }
        let contents = slice
            .get_mapped_range()
            .map_err(|error| Error::new(ErrorKind::Gpu, format!("cannot read a result: {error}")))?
            .to_vec();
        staging.buffer.unmap();
        Ok(contents)
    }
}

/// Refuses what shaders cannot see as a whole.
///
/// # Errors
/// `out_of_memory` with the bytes needed and the limit.
pub fn check_binding(label: &str, needed: u64, limit: u64) -> Result<()> {
    if needed > limit {
        let message = "what a shader must see at once is larger than a GPU binding";
        return Err(Error::new(ErrorKind::OutOfMemory, message)
            .with("tensor", label)
            .with("needed", needed)
            .with("limit", limit));
    }
    Ok(())
}

/// Bytes of a buffer for `bytes` bytes.
pub fn buffer_bytes(bytes: u64) -> u64 {
    bytes.max(16).next_multiple_of(16)
}

/// Bytes that are asked for before the device's answer is waited for: answers take turns of a browser's
/// event loop, and what is asked for after a refusal is asked in vain.
const STEP_BYTES: u64 = 128 << 20;

/// Catches what the device has to say of things created on it, in steps.
pub struct Guard<'a> {
    context: &'a Context,
    scopes: Option<Scopes>,
    /// Bytes held at the device's last answer.
    granted: u64,
    /// Bytes that will be held in the end, where that is known.
    needed: Option<u64>,
}

impl<'a> Guard<'a> {
    /// Begins to catch errors.
    pub fn new(context: &'a Context) -> Self {
        let (scopes, granted) = (Some(Scopes::push(context)), context.allocated());
        Self { context, scopes, granted, needed: None }
    }

    /// Takes note of how many bytes will be held in the end, for errors to tell.
    pub fn will_hold(&mut self, needed: u64) {
        self.needed = Some(needed);
    }

    /// As [`Capabilities::max_binding`].
    pub fn max_binding(&self) -> u64 {
        self.context.capabilities.max_binding
    }

    /// As [`Context::storage`], and waits for the device's answer where much was asked for since the last
    /// one.
    ///
    /// # Errors
    /// As [`Context::storage`] and [`finish`](Self::finish).
    pub async fn storage(&mut self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let buffer = self.context.storage(label, bytes)?;
        if self.context.allocated() - self.granted >= STEP_BYTES {
            self.answer().await?;
            self.scopes = Some(Scopes::push(self.context));
        }
        Ok(buffer)
    }

    /// Waits for the device's answer to everything since the last one.
    ///
    /// # Errors
    /// `out_of_memory` with the bytes needed and those held before the device refused; `device_lost`;
    /// `gpu`.
    pub async fn finish(self) -> Result<()> {
        self.end().await
    }

    /// As [`finish`](Self::finish), where the answer may be waited for later. It also tells of what else the device has
    /// reported by then.
    pub fn end(mut self) -> LocalFuture<'static, Result<()>> {
        self.close()
    }

    async fn answer(&mut self) -> Result<()> {
        let allocated = self.context.allocated();
        self.close().await?;
        self.granted = allocated;
        Ok(())
    }

    fn close(&mut self) -> LocalFuture<'static, Result<()>> {
        let scopes = self.scopes.take().expect("errors are caught until the end");
        let caught = scopes.pop();
        let (context, granted) = (self.context.clone(), self.granted);
        let needed = self.needed.unwrap_or(context.allocated());
        Box::pin(async move {
            let Some(error) = caught.await else { return context.check() };
            let error = from_wgpu(&error).with("needed", needed).with("granted", granted);
            Err(error.with("device", context.capabilities.name.as_str()))
        })
    }
}

/// What catches errors of each kind. The later one is dropped first, as the device wants it.
struct Scopes {
    memory: wgpu::ErrorScopeGuard,
    validation: wgpu::ErrorScopeGuard,
}

impl Scopes {
    fn push(context: &Context) -> Self {
        let validation = context.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = context.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        Self { memory, validation }
    }

    /// What was caught. No error of later things is.
    fn pop(self) -> impl Future<Output = Option<wgpu::Error>> {
        let [memory, invalid] = [self.memory, self.validation].map(wgpu::ErrorScopeGuard::pop);
        async {
            let memory = memory.await;
            memory.or(invalid.await)
        }
    }
}

/// What finds adapters. A process has one, which keeps drivers loaded: after NVIDIA's had been loaded and unloaded
/// eight times, no adapter was found.
#[cfg(not(target_arch = "wasm32"))]
fn instance() -> &'static wgpu::Instance {
    static INSTANCE: std::sync::LazyLock<wgpu::Instance> = std::sync::LazyLock::new(new_instance);
    &INSTANCE
}

#[cfg(target_arch = "wasm32")]
fn instance() -> wgpu::Instance {
    new_instance()
}

fn new_instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    wgpu::Instance::new(descriptor)
}

fn note(failure: &Mutex<Option<Error>>, error: Error) {
    let mut failure = failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // The first failure explains those that follow, but for a loss, which explains all.
    if failure.is_none() || error.kind() == ErrorKind::DeviceLost {
        *failure = Some(error);
    }
}

fn from_wgpu(error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            Error::new(ErrorKind::OutOfMemory, "the GPU has no memory left for the model")
        }
        _ => Error::new(ErrorKind::Gpu, format!("the GPU rejected work: {error}")),
    }
}

/// A buffer whose bytes count as allocated until it is dropped.
pub struct GpuBuffer {
    /// The buffer.
    pub buffer: wgpu::Buffer,
    allocated: Rc<Cell<u64>>,
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        self.allocated.set(self.allocated.get() - self.buffer.size());
        self.buffer.destroy();
    }
}
