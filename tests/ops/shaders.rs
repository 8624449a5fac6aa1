//! Every variant that a plan may use is valid WGSL to naga. The browser tests compile the same table.

use std::collections::HashSet;

use pesi::gpu::ops::variants;

use super::device::devices;

#[test]
fn every_variant_is_valid() {
    let mut seen = HashSet::new();
    for device in devices() {
        for variant in variants(&device.target()) {
            let context = &device.context;
            let source = variant.source(context.dialect());
            if !seen.insert(source.clone()) {
                continue;
            }
            assert_eq!(unset_variable(&source), None, "{}", variant.label());
            let create = || {
                let source = wgpu::ShaderSource::Wgsl(source.into());
                let descriptor = wgpu::ShaderModuleDescriptor { label: None, source };
                Ok(context.device.create_shader_module(descriptor))
            };
            let outcome = pollster::block_on(context.guarded(create));
            assert!(outcome.is_ok(), "{}: {}", variant.label(), outcome.unwrap_err());
        }
    }
    // 32-bit and 16-bit forms, with and without subgroups, for both kinds of adapters.
    assert!(seen.len() > 800, "{} variants", seen.len());
}

/// A variable of an inner block that is declared without a value. WGSL makes it zero each time; Chromium's compiler
/// does so only once, so that in a loop it keeps what the turn before left there.
fn unset_variable(source: &str) -> Option<&str> {
    let mut depth = 0;
    source.lines().find(|line| {
        let code = line.split("//").next().unwrap_or_default();
        let is_inner = depth > 1;
        depth += code.matches('{').count();
        depth -= code.matches('}').count();
        is_inner && code.trim_start().starts_with("var ") && !code.contains('=')
    })
}
