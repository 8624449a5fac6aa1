//! What one decoded token costs on a GPU, kernel by kernel, and how fast the device's memory is.
//!
//! Natively only: the command line reports it.

use std::time::Instant;

use super::{
    Extent, GpuEngine, HEAD_EXTENT,
    context::Context,
    record::{Binding, Pipelines, Recorder, Recording},
    shader::Variant,
};
use crate::error::{Error, Result};

/// Tokens of which medians are taken.
const ROUNDS: usize = 9;

/// Chunks of which medians are taken.
const CHUNK_ROUNDS: usize = 3;

/// Bytes that are copied, and read, to measure the speed of memory.
const STREAMED_BYTES: u64 = 1 << 30;

/// The same on a software adapter, whose memory is the computer's own.
const STREAMED_BYTES_SOFTWARE: u64 = 1 << 28;

/// Dispatches of one kernel in one decoded token.
#[derive(Clone, Debug)]
pub struct KernelTime {
    /// The operation, without the number of its layer.
    pub name: String,
    /// Dispatches in a token.
    pub n_dispatches: usize,
    /// Time on the device of all of them together, in microseconds.
    pub microseconds: f64,
}

/// What one decoded token costs, and one chunk of a prompt.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Dispatches in a token, sampling among them.
    pub n_dispatches: usize,
    /// Of a token by name, in order of appearance; empty where the device has no timestamps.
    pub kernels: Vec<KernelTime>,
    /// Tokens in the chunk.
    pub chunk: usize,
    /// As `kernels`, of a chunk.
    pub chunk_kernels: Vec<KernelTime>,
    /// Bytes a second, read plus written, of copies from buffer to buffer.
    pub copied_per_second: f64,
    /// Bytes a second of a kernel that reads and does nothing else.
    pub read_per_second: f64,
}

impl GpuEngine {
    /// Measures one decoded token at `position`, whatever the caches hold, and a chunk of at most so many
    /// at their beginning. What they held is lost.
    ///
    /// # Errors
    /// `device_lost`, `out_of_memory` or `gpu`.
    pub async fn profile(&mut self, position: usize) -> Result<Profile> {
        let extent = self.begin_chunk(&[0], position);
        let parts = [(&self.token.layers.recording, extent), (&self.token.heads[0], HEAD_EXTENT)];
        let n_dispatches = parts.iter().map(|(part, extent)| part.active(*extent).count()).sum();
        let kernels = kernel_times(&self.context, &parts, ROUNDS).await?;
        let tokens = vec![0; position.clamp(1, self.tuning.max_chunk as usize)];
        let extent = self.begin_chunk(&tokens, 0);
        let parts = [(&self.chunk.recording, extent)];
        let chunk_kernels = kernel_times(&self.context, &parts, CHUNK_ROUNDS).await?;
        let (copied_per_second, read_per_second) = memory_speed(&self.context).await?;
        Ok(Profile {
            n_dispatches,
            kernels,
            chunk: tokens.len(),
            chunk_kernels,
            copied_per_second,
            read_per_second,
        })
    }
}

/// Runs the parts, each dispatch in a pass of its own with timestamps around it; gives nothing where the
/// device has none.
async fn kernel_times(
    context: &Context,
    parts: &[(&Recording, Extent)],
    rounds: usize,
) -> Result<Vec<KernelTime>> {
    if !context.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
        return Ok(Vec::new());
    }
    let active: Vec<_> = parts
        .iter()
        .flat_map(|&(part, extent)| {
            part.active(extent).map(move |(index, label)| (part, extent, index, kernel_name(label)))
        })
        .collect();
    let n_queries = 2 * active.len() as u32;
    let queries = context.device.create_query_set(&wgpu::QuerySetDescriptor {
        label: Some("kernel times"),
        ty: wgpu::QueryType::Timestamp,
        count: n_queries,
    });
    let bytes = u64::from(n_queries) * 8;
    let resolved = context.buffer(
        "kernel times",
        bytes,
        wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
    );
    let nanoseconds = f64::from(context.queue.get_timestamp_period());
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); active.len()];
    for _ in 0..rounds {
        let mut encoder = context.device.create_command_encoder(&Default::default());
        for (index, &(part, extent, dispatch, _)) in active.iter().enumerate() {
            let first = 2 * index as u32;
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(first + 1),
                }),
            });
            part.encode_part(&mut pass, extent, dispatch..dispatch + 1);
        }
        encoder.resolve_query_set(&queries, 0..n_queries, &resolved.buffer, 0);
        context.queue.submit([encoder.finish()]);
        let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(&context.read(&resolved, bytes).await?);
        for (times, pair) in times.iter_mut().zip(stamps.chunks_exact(2)) {
            times.push(pair[1].saturating_sub(pair[0]) as f64 * nanoseconds / 1e3);
        }
    }
    let mut kernels: Vec<KernelTime> = Vec::new();
    for ((.., name), times) in active.into_iter().zip(times) {
        let microseconds = median(times);
        match kernels.iter_mut().find(|kernel| kernel.name == name) {
            Some(kernel) => {
                kernel.n_dispatches += 1;
                kernel.microseconds += microseconds;
            }
            None => kernels.push(KernelTime { name, n_dispatches: 1, microseconds }),
        }
    }
    Ok(kernels)
}

/// A label without `layers.N.`.
fn kernel_name(label: &str) -> String {
    let in_layer = label.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    in_layer.map_or(label, |(_, name)| name).to_owned()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Bytes a second of copies, and of reads.
async fn memory_speed(context: &Context) -> Result<(f64, f64)> {
    let most = match context.capabilities.software {
        true => STREAMED_BYTES_SOFTWARE,
        false => STREAMED_BYTES,
    };
    let bytes = most.min(context.capabilities.max_binding) / 256 * 256;
    let (source, target, out) = context
        .guarded(|| {
            Ok((
                context.storage("streamed", bytes)?,
                context.storage("streamed copy", bytes)?,
                context.storage("streamed sum", 4)?,
            ))
        })
        .await?;
    let mut recorder = Recorder::default();
    recorder.dispatch(
        "stream",
        Variant::new("stream"),
        vec![(0, Binding::Read((&source).into())), (1, Binding::Write((&out).into()))],
        // Enough threads for any device, and several reads for each.
        Box::new(|_| Some([2048, 1, 1])),
    );
    let reading = recorder.finish(context, &mut Pipelines::default());

    let copying = |encoder: &mut wgpu::CommandEncoder| {
        encoder.copy_buffer_to_buffer(&source.buffer, 0, &target.buffer, 0, bytes);
    };
    let reading = |encoder: &mut wgpu::CommandEncoder| {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        reading.encode(&mut pass, HEAD_EXTENT);
    };
    let copied = 2.0 * bytes as f64 / seconds_of(context, &out, &copying).await?;
    let read = bytes as f64 / seconds_of(context, &out, &reading).await?;
    Ok((copied, read))
}

/// Seconds that `encode`'s work takes, of several in a row, after some that do not count.
async fn seconds_of(
    context: &Context,
    any: &super::GpuBuffer,
    encode: &dyn Fn(&mut wgpu::CommandEncoder),
) -> Result<f64> {
    const REPEATS: usize = 8;
    let mut seconds = Vec::new();
    for _ in 0..4 {
        context.read(any, 4).await?;
        let started = Instant::now();
        let mut encoder = context.device.create_command_encoder(&Default::default());
        for _ in 0..REPEATS {
            encode(&mut encoder);
        }
        context.queue.submit([encoder.finish()]);
        context.read(any, 4).await?;
        seconds.push(started.elapsed().as_secs_f64() / REPEATS as f64);
    }
    let measured = seconds.split_off(1);
    let seconds = median(measured);
    match seconds > 0.0 {
        true => Ok(seconds),
        false => Err(Error::unsupported("a clock that stands still")),
    }
}
