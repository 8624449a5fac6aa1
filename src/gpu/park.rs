//! Keys and values of a conversation, set aside on the GPU while another one is computed.

use super::{
    buffers::Cache,
    context::{Context, GpuBuffer, Guard},
};
use crate::error::{ErrorKind, Result};

/// Copies of what caches held of one conversation.
pub struct ParkedCaches(Vec<ParkedCache>);

struct ParkedCache {
    keys: GpuBuffer,
    values: GpuBuffer,
    /// Positions of each head, from the cache's first place on.
    n_positions: usize,
}

impl ParkedCaches {
    /// Copies the first `n_positions` of `caches`: of rings, which may hold later ones of `n_written` in
    /// their place, whatever they hold. `None` where the GPU has no memory for it.
    ///
    /// # Errors
    /// `device_lost`, or `gpu`.
    pub async fn new(
        context: &Context,
        caches: &[Cache],
        n_positions: usize,
        n_written: usize,
    ) -> Result<Option<Self>> {
        match Self::allocate(context, caches, n_positions, n_written).await {
            Ok(parked) => {
                parked.copy(context, caches, Direction::Park);
                Ok(Some(parked))
            }
            Err(error) if error.kind() == ErrorKind::OutOfMemory => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn allocate(
        context: &Context,
        caches: &[Cache],
        n_positions: usize,
        n_written: usize,
    ) -> Result<Self> {
        let mut guard = Guard::new(context);
        let mut parked = Vec::with_capacity(caches.len());
        for cache in caches {
            let n_held = if cache.shape.window.is_some() { n_written } else { n_positions };
            let n_positions = n_held.min(cache.capacity);
            let bytes = cache.bytes_of(n_positions) * cache.shape.heads.n_kv_heads as u64;
            parked.push(ParkedCache {
                keys: guard.storage("parked keys", bytes).await?,
                values: guard.storage("parked values", bytes).await?,
                n_positions,
            });
        }
        guard.finish().await?;
        Ok(Self(parked))
    }

    /// Puts the copies back into `caches`.
    pub fn unpark(&self, context: &Context, caches: &[Cache]) {
        self.copy(context, caches, Direction::Unpark);
    }

    /// Bytes on the GPU.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|parked| parked.keys.buffer.size() + parked.values.buffer.size()).sum()
    }

    fn copy(&self, context: &Context, caches: &[Cache], direction: Direction) {
        let mut encoder = context.device.create_command_encoder(&Default::default());
        for (parked, cache) in self.0.iter().zip(caches) {
            let (run, stride) =
                (cache.bytes_of(parked.n_positions), cache.bytes_of(cache.capacity));
            let pairs = [(&parked.keys, &cache.keys), (&parked.values, &cache.values)];
            for (parked, cache_half) in pairs {
                for head in 0..cache.shape.heads.n_kv_heads as u64 {
                    let (aside, held) = (&parked.buffer, &cache_half.buffer);
                    let (aside_at, held_at) = (head * run, head * stride);
                    match direction {
                        Direction::Park => {
                            encoder.copy_buffer_to_buffer(held, held_at, aside, aside_at, run);
                        }
                        Direction::Unpark => {
                            encoder.copy_buffer_to_buffer(aside, aside_at, held, held_at, run);
                        }
                    }
                }
            }
        }
        context.queue.submit([encoder.finish()]);
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Park,
    Unpark,
}
