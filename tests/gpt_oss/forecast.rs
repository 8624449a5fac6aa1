//! Forecasts against loads, with windows and experts.

use pesi::{engine::DeviceKind, forecast::forecast, weights::Precision};

use super::model::{NoHost, describe, devices, folder, put};

#[test]
fn models_take_what_was_forecast() {
    // Within rings, and beyond them, where the smallest bindings hold less.
    for (name, asked, longest) in [("a1-basic", 40, 128), ("a2-ratios", 2000, 4096)] {
        for device in devices() {
            // Measures the speed on an adapter that emulates what it is not; once is enough.
            if name == "a2-ratios"
                && matches!(&device, DeviceKind::Gpu(hints) if hints.no_subgroups)
            {
                continue;
            }
            let what = format!("{name}, {device:?}, {asked} positions");
            pollster::block_on(async {
                let opened = describe(&folder(name)).await.unwrap();
                let plan = opened.description.plan(Precision::Compact).unwrap();
                let told = forecast(&device, &plan, asked, longest, &NoHost).await.unwrap();
                println!("{what}: {} with {:?}", told.context_length, told.memory);
                assert_eq!(told.refusal.is_some(), told.context_length < asked, "{what}");
                let expected = if told.refusal.is_some() { told.context_length } else { longest };
                assert_eq!(told.largest_context, expected, "{what}");
                let loaded = put(opened, &device, Precision::Compact, told.context_length);
                let (mut engine, _) = loaded.await;
                // What a first answer needs is there by then; one model shows it.
                if name == "a1-basic" {
                    engine.warm_up().await.unwrap();
                }
                assert_eq!(told.memory, Some(engine.memory()), "{what}");
            });
        }
    }
}
