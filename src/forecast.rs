//! What a model would take on a device, before its weights are read.
//!
//! In goes a plan, which the heads of files make; out come bytes and a speed. What can be tried is not
//! estimated: memory is allocated as it is for a load, and the speed is that of the plan's own operations,
//! over weights that are zero. Each try frees what it took before the next begins.

use crate::{
    engine::{DeviceKind, Engine, MemoryUse, Outputs, allocate, create_engine},
    error::{Detail, Error, ErrorKind, Result},
    ops::Plan,
    sampler::SamplingParams,
    session::{Host, Pace},
};

/// What a model would take.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Bytes that it would hold with `context_length` positions; none where nothing fits.
    pub memory: Option<MemoryUse>,
    /// The positions asked for, or where these do not fit, the most that do, if any.
    pub context_length: usize,
    /// The most positions that were found to fit, up to the longest asked about; 0 where not even
    /// a short context does.
    pub largest_context: usize,
    /// Why the positions asked for do not fit, with the bytes needed and those there are.
    pub refusal: Option<Error>,
    /// The speed of decoding at the beginning of a context, where something fits and time was measured.
    pub tokens_per_second: Option<f64>,
}

/// Contexts that are tried, at most.
const MAX_TRIES: usize = 6;

/// Positions with which a model is tried when those asked for do not fit. Fewer are not looked for.
const SHORT_CONTEXT: usize = 256;

/// Time for which decoding is measured, in milliseconds.
const MEASURED_MS: f64 = 1000.0;

/// Tokens that are decoded to measure, at most.
const MEASURED_TOKENS: usize = 256;

/// Finds out what `plan` would take with `context_length` positions, and how many of `longest` would fit.
///
/// # Errors
/// As [`create_engine`], but for `out_of_memory`, which is an answer.
///
/// # Panics
/// When `context_length` is not between 1 and `longest`: callers have checked.
pub async fn forecast(
    kind: &DeviceKind,
    plan: &Plan,
    context_length: usize,
    longest: usize,
    host: &dyn Host,
) -> Result<Forecast> {
    assert!((1..=longest).contains(&context_length), "the model is made for this context");
    match fitted(rehearse(kind, plan, context_length, host).await)? {
        Ok((memory, tokens_per_second)) => Ok(Forecast {
            memory: Some(memory),
            context_length,
            largest_context: grow(kind, plan, (context_length, memory), longest).await?,
            refusal: None,
            tokens_per_second,
        }),
        Err(refusal) => shrink(kind, plan, (context_length, refusal), host).await,
    }
}

/// The most positions up to `longest` that fit, where those of `fits` do.
async fn grow(
    kind: &DeviceKind,
    plan: &Plan,
    fits: (usize, MemoryUse),
    longest: usize,
) -> Result<usize> {
    if fits.0 == longest {
        return Ok(longest);
    }
    match fitted(allocate(kind, plan, longest).await)? {
        Ok(_) => Ok(longest),
        Err(refusal) => Ok(largest_between(kind, plan, fits, (longest, refusal)).await?.0),
    }
}

/// The forecast where the positions of `refused` do not fit.
async fn shrink(
    kind: &DeviceKind,
    plan: &Plan,
    refused: (usize, Error),
    host: &dyn Host,
) -> Result<Forecast> {
    let mut forecast = Forecast {
        memory: None,
        context_length: refused.0,
        largest_context: 0,
        refusal: Some(refused.1.clone()),
        tokens_per_second: None,
    };
    if refused.0 <= SHORT_CONTEXT {
        return Ok(forecast);
    }
    let short = fitted(rehearse(kind, plan, SHORT_CONTEXT, host).await)?;
    if let Ok((memory, tokens_per_second)) = short {
        let fits = (SHORT_CONTEXT, memory);
        let (largest, memory) = largest_between(kind, plan, fits, refused).await?;
        forecast.memory = Some(memory);
        forecast.context_length = largest;
        forecast.largest_context = largest;
        forecast.tokens_per_second = tokens_per_second;
    }
    Ok(forecast)
}

/// Tells what does not fit from what went wrong.
fn fitted<T>(tried: Result<T>) -> Result<Result<T>> {
    match tried {
        Err(error) if error.kind() != ErrorKind::OutOfMemory => Err(error),
        tried => Ok(tried),
    }
}

/// Narrows down the most positions that fit, after two tries: one that did and one that did not.
async fn largest_between(
    kind: &DeviceKind,
    plan: &Plan,
    mut fits: (usize, MemoryUse),
    mut refused: (usize, Error),
) -> Result<(usize, MemoryUse)> {
    for _ in 2..MAX_TRIES {
        // Nearer than a thirty-second is near enough.
        if refused.0 - fits.0 <= 1 + fits.0 / 32 {
            break;
        }
        let between = expected_between(kind, &fits, &refused);
        match fitted(allocate(kind, plan, between).await)? {
            Ok(memory) => fits = (between, memory),
            Err(refusal) => refused = (between, refusal),
        }
    }
    Ok(fits)
}

/// The positions for which there should just be room, since bytes grow linearly with positions; halfway
/// where that is known already.
fn expected_between(
    kind: &DeviceKind,
    &(fitting, memory): &(usize, MemoryUse),
    (refused, refusal): &(usize, Error),
) -> usize {
    let number = |name| match refusal.detail(name) {
        Some(Detail::Number(number)) => Some(*number as f64),
        _ => None,
    };
    let (granted, limit) = (number("granted"), number("limit"));
    let all = (fitting as f64, memory.total() as f64);
    // A device grants bytes for everything, an address space has a limit for everything, but a binding
    // has one for the keys or the values of a layer.
    let (from, there_are) = match (granted, limit, kind) {
        (Some(granted), _, _) => (all, granted),
        #[cfg(feature = "gpu")]
        (None, Some(limit), DeviceKind::Gpu(_)) => ((0.0, 0.0), limit),
        (None, Some(limit), DeviceKind::Cpu | DeviceKind::Threads(_)) => (all, limit),
        (None, None, _) => (all, f64::NAN),
    };
    let needed = number("needed").unwrap_or(f64::NAN);
    let expected = from.0 + (*refused as f64 - from.0) * (there_are - from.1) / (needed - from.1);
    // What is not a number becomes 0, which is not between.
    let expected = expected as usize;
    if (fitting + 1..*refused).contains(&expected) {
        expected
    } else {
        fitting + (refused - fitting) / 2
    }
}

/// Creates the engine that a load would create, measures, and frees it.
async fn rehearse(
    kind: &DeviceKind,
    plan: &Plan,
    context_length: usize,
    host: &dyn Host,
) -> Result<(MemoryUse, Option<f64>)> {
    let mut engine = create_engine(kind, plan, context_length).await?;
    let memory = engine.memory();
    let measured = measure(engine.as_mut(), context_length, host).await;
    engine.dispose();
    Ok((memory, measured?))
}

/// Tokens decoded a second, where there is room for some and the clock runs.
async fn measure(
    engine: &mut dyn Engine,
    context_length: usize,
    host: &dyn Host,
) -> Result<Option<f64>> {
    engine.warm_up().await?;
    engine.start(&SamplingParams::default(), &[])?;
    engine.extend(&[0], 0, Outputs::All).await?;
    // The first token is drawn from what `extend` has computed; each later one takes a position.
    engine.decode(1).await?;
    let mut room = (context_length - 1).min(MEASURED_TOKENS);
    let mut pace = Pace::new(engine.max_batch());
    let end = host.now() + MEASURED_MS;
    // Of the batches of the latest size: a session settles on one that suits the device.
    let (mut batch, mut n_tokens, mut milliseconds) = (0, 0, 0.0);
    while pace.batch() <= room && (batch == 0 || host.now() < end) {
        if batch != pace.batch() {
            (batch, n_tokens, milliseconds) = (pace.batch(), 0, 0.0);
        }
        let batch_started = host.now();
        engine.decode(batch).await?;
        let took = host.now() - batch_started;
        pace.record(batch, took);
        room -= batch;
        n_tokens += batch;
        milliseconds += took;
        host.yield_now().await;
    }
    Ok((milliseconds > 0.0).then(|| n_tokens as f64 / (milliseconds / 1e3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_context_to_try_follows_from_the_numbers_of_a_refusal() {
        let fits = (100, MemoryUse { weights: 900, caches: 100, scratch: 0 });
        let refusal = || Error::new(ErrorKind::OutOfMemory, "no").with("needed", 11_000_u64);
        let next = |kind: &DeviceKind, refusal| expected_between(kind, &fits, &(1100, refusal));
        let cpu = DeviceKind::Cpu;
        assert_eq!(next(&cpu, refusal().with("granted", 5000_u64)), 500);
        assert_eq!(next(&cpu, refusal().with("limit", 5000_u64)), 500);
        #[cfg(feature = "gpu")]
        {
            let gpu = DeviceKind::Gpu(Default::default());
            assert_eq!(next(&gpu, refusal().with("granted", 5000_u64)), 500);
            // Keys of a layer, of which no positions take nothing.
            let keys = Error::new(ErrorKind::OutOfMemory, "no").with("needed", 4400_u64);
            assert_eq!(next(&gpu, keys.with("limit", 900_u64)), 225);
        }
        // Halfway where what was granted fits already, or nothing is known.
        assert_eq!(next(&cpu, refusal().with("granted", 1000_u64)), 600);
        assert_eq!(next(&cpu, refusal()), 600);
        assert_eq!(next(&cpu, Error::new(ErrorKind::OutOfMemory, "no")), 600);
        assert_eq!(next(&cpu, refusal().with("granted", u64::MAX)), 600);
    }
}
