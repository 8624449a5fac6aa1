//! Forecasts against loads: the same bytes, about the same speed, and contexts that fit or do not.

use pesi::{
    ErrorKind,
    engine::{DeviceKind, create_engine},
    error::Detail,
    forecast::forecast,
    gpu::context::AdapterHints,
    session::{Request, Session, TokenEvent},
};

use super::{
    limited::with_addresses,
    model::{TestHost, describe, devices, put},
};

const CONTEXT: usize = 512;

/// How much faster or slower decoding may be than forecast.
const MAX_RATIO: f64 = 1.5;

/// Rounds in which both are measured, and how often in all where others use the machine meanwhile.
const ROUNDS: usize = 3;
const ATTEMPTS: usize = 4;

fn tokens_per_second(session: &mut Session) -> f64 {
    let request = Request {
        tokens: vec![1, 2, 3, 4],
        max_tokens: Some(25),
        ignore_eos: true,
        ..Default::default()
    };
    let host = TestHost::new();
    let mut ignore = |_: &[TokenEvent]| Ok(());
    let run = session.generate(&request, &host, &|| false, &mut ignore);
    let summary = pollster::block_on(run).unwrap();
    (summary.completion_tokens - 1) as f64 / (summary.decode_ms / 1e3)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn forecasts_have_the_bytes_and_the_speed_of_a_load() {
    for device in devices() {
        let (opened, plan) = pollster::block_on(describe());
        let longest = opened.description.config.context_length;
        let mut session = pollster::block_on(put(opened, &plan, &device, CONTEXT));
        let mut ratios = Vec::new();
        while ratios.len() < ATTEMPTS {
            let (mut foretold, mut decoded) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let host = TestHost::new();
                let run = forecast(&device, &plan, CONTEXT, longest, &host);
                let forecast = pollster::block_on(run).unwrap();
                decoded.push(tokens_per_second(&mut session));
                assert_eq!(forecast.memory, Some(session.memory()), "{device:?}");
                assert_eq!(forecast.context_length, CONTEXT);
                assert_eq!(forecast.largest_context, longest, "{device:?}");
                assert_eq!(forecast.refusal, None, "{device:?}");
                foretold.push(forecast.tokens_per_second.unwrap());
            }
            println!("{device:?}: {foretold:.1?} tokens a second forecast, {decoded:.1?} decoded");
            let ratio = median(foretold) / median(decoded);
            ratios.push(ratio);
            if (1.0 / MAX_RATIO..=MAX_RATIO).contains(&ratio) {
                break;
            }
        }
        let ratio = ratios[ratios.len() - 1];
        assert!((1.0 / MAX_RATIO..=MAX_RATIO).contains(&ratio), "{device:?}: {ratios:.2?}");
    }
}

/// Were anything of a try still held during the next, less would seem to fit.
#[test]
fn the_largest_context_is_one_that_loads() {
    with_addresses(6, "forecast::the_largest_context_is_one_that_loads", || {
        pollster::block_on(async {
            let (_, plan) = describe().await;
            let kind = DeviceKind::Gpu(AdapterHints::default());
            let (short, longest) = (CONTEXT, 300_000);
            let host = TestHost::new();

            let fitting = forecast(&kind, &plan, short, longest, &host).await.unwrap();
            assert_eq!(fitting.context_length, short);
            assert_eq!(fitting.refusal, None);
            let refused = forecast(&kind, &plan, longest, longest, &host).await.unwrap();
            let refusal = refused.refusal.expect("6.4 GiB are not there");
            assert_eq!(refusal.kind(), ErrorKind::OutOfMemory);
            let [needed, granted] = ["needed", "granted"].map(|name| match refusal.detail(name) {
                Some(Detail::Number(number)) => *number,
                _ => panic!("{refusal} does not tell {name}"),
            });
            assert!(needed > 6 << 30 && granted < needed, "{refusal}");
            assert!(refused.tokens_per_second.is_some());

            let largest = refused.largest_context;
            println!("{largest} positions fit, {} from {short} on", fitting.largest_context);
            assert!(largest.abs_diff(fitting.largest_context) < largest / 10);
            assert_eq!(refused.context_length, largest);
            let engine = create_engine(&kind, &plan, largest).await.unwrap();
            assert_eq!(refused.memory, Some(engine.memory()));
            engine.dispose();
            let beyond = create_engine(&kind, &plan, largest + largest / 8).await;
            assert_eq!(beyond.err().unwrap().kind(), ErrorKind::OutOfMemory);
        });
    });
}
