//! What a model would take on this device, from the heads of its files alone.

use std::rc::Rc;

use serde::Serialize;

use super::{
    host::WorkerHost,
    load::context_length,
    opfs::Models,
    options::{Memory, SourceOptions, Target},
};
use crate::{
    error::{Detail, Error, Result},
    forecast::forecast as forecast_on_device,
    session::{Heads, Opened},
    store::{Entry, Manifest},
};

/// What is expected of a model.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    id: String,
    architecture: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    parameters: u64,
    fits: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    total_bytes: u64,
    stored_bytes: u64,
    download_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    context_length: usize,
    largest_context_length: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_second: Option<f64>,
}

/// Forecasts what the model at `source` would take on `target`. Nothing is kept, and of a model whose
/// heads are stored nothing is requested.
///
/// # Errors
/// Those of the source; of the device, but for `out_of_memory`, which is an answer.
pub async fn forecast(
    source: &SourceOptions,
    target: &Target,
    host: &Rc<WorkerHost>,
) -> Result<Forecast> {
    let (heads, (description, plan, pieces), stored_bytes) = match stored(source, target).await {
        Some((manifest, heads, stored_bytes)) => {
            let described = manifest.describe(&heads)?;
            (heads, described, stored_bytes)
        }
        None => {
            let Opened { description, heads, .. } =
                source.open(&target.signal, Rc::new(|_| ())).await?;
            let plan = description.plan(target.precision)?;
            let pieces = description.pieces(&plan, &heads);
            (heads, (description, plan, pieces), 0)
        }
    };
    let total_bytes = pieces.source_bytes() + heads.len() as u64;
    let wanted = context_length(&description, target.context_length)?;
    let config = &description.config;
    let longest = config.context_length;
    let plan = plan.with_cache_numbers(target.kv_cache);
    let found = forecast_on_device(&target.device, &plan, wanted, longest, host.as_ref()).await?;
    Ok(Forecast {
        id: source.id.clone(),
        architecture: config.architecture.name(),
        name: config.name.clone(),
        parameters: plan.weights.n_elements(),
        fits: found.refusal.is_none(),
        reason: found.refusal.as_ref().map(|refusal| reason(refusal, found.largest_context)),
        total_bytes,
        stored_bytes,
        download_bytes: total_bytes - stored_bytes.min(total_bytes),
        memory: found.memory.map(|memory| Memory::new(memory, None)),
        context_length: found.context_length,
        largest_context_length: found.largest_context,
        tokens_per_second: found.tokens_per_second,
    })
}

/// What storage has of the model, where it can be had, and the bytes of its files that are there.
async fn stored(source: &SourceOptions, target: &Target) -> Option<(Manifest, Heads, u64)> {
    let models = Models::open().await.ok()?;
    let folder = models.folder(&source.id, target.precision);
    let entry = Entry::read_of(&folder, &source.id, target.precision).await.ok()??;
    let stored_bytes = entry.downloaded_bytes();
    let Entry { manifest, heads, .. } = entry;
    Some((manifest, heads?, stored_bytes))
}

/// A sentence for people on why a model does not fit.
fn reason(refusal: &Error, largest_context: usize) -> String {
    let number = |name: &str| match refusal.detail(name) {
        Some(Detail::Number(number)) => Some(*number as f64 / 1e9),
        _ => None,
    };
    let needed = number("needed").map(|needed| format!(" {needed:.1} GB are needed"));
    let granted = number("granted").or_else(|| number("limit"));
    let granted = granted.map(|granted| format!(", and {granted:.1} GB there are"));
    let sizes = needed.map(|needed| format!(":{needed}{}", granted.unwrap_or_default()));
    let shorter = match largest_context {
        0 => String::new(),
        tokens => format!(" With a context of {tokens} tokens it fits."),
    };
    let what = refusal.message();
    format!("{}{}.{shorter}", capitalized(what), sizes.unwrap_or_default())
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
